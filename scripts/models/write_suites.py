"""Writes the suites, the same bytes at every run: `python -m scripts.models.write_suites`."""

from pathlib import Path

from scripts.models.data import suite_items


def suite_files() -> dict[str, str]:
    """The text of each suite file by its name."""
    files: dict[str, str] = {}
    for item in suite_items():
        name = f"{item.profile}.jsonl"
        files[name] = files.get(name, "") + item.to_json() + "\n"
    return files


def main() -> None:
    folder = Path("suites")
    folder.mkdir(exist_ok=True)
    for name, text in suite_files().items():
        (folder / name).write_text(text, encoding="utf-8")
        print(f"{folder / name}: {len(text.splitlines())} items")


if __name__ == "__main__":
    main()
