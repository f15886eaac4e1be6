"""``python -m efficientconv <tool> ...``."""

from efficientconv.cli import main

if __name__ == "__main__":
    main()
