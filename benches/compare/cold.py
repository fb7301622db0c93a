"""A process's whole life: load, embed one sentence, print the peak of resident memory in MB, exit.

python cold.py MODULE VARIANT CHECKPOINT FOLDER THREADS SENTENCE
"""

from __future__ import annotations

import sys

from process import load, peak_memory


def main() -> None:
    *what, sentence = sys.argv[1:]
    load(*what).embed([sentence], True)
    print(peak_memory())


if __name__ == "__main__":
    main()
