"""Write helm/bakehouse/dashboards/*.json."""

from tools.dashboards import FOLDER, texts

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text)
