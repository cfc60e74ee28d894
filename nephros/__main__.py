"""python -m nephros"""

from nephros.cli import main

if __name__ == "__main__":
    main()
