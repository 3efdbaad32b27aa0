"""`python -m kie_course` is the same as `kie-course`."""

from kie_course.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
