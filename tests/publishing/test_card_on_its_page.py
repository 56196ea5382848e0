"""Publishing again where the card was edited on the Hub, and the folder has a README too."""

import pytest
from huggingface_hub import ModelCard

from diffusers_nested import PublishError
from hub.steps import to_hub


class TestTheCardOnItsPage:
    """The card is edited on the Hub, and the folder has a README too."""

    def edited(self, hub, folder, edit) -> str:
        to_hub(folder)
        repo = hub.repos["alice/nested"]
        first = repo.files()["README.md"].decode()
        (folder / "README.md").write_text(first)
        repo.edit(**{"README.md": edit(first).encode()})
        to_hub(folder)
        return repo.files()["README.md"].decode()

    def test_sections_stay(self, hub, folder):
        section = "## Thanks\n\nTo all.\n\n```sh\n## no heading\n```\n\n### Part\n\nMore."
        card = self.edited(hub, folder, lambda first: f"{first}\n{section}\n")
        assert card.count(section) == 1 and card.count("## Use") == 1

    def test_what_was_to_be_filled_in(self, hub, folder):
        def edit(first: str) -> str:
            begin = first.index("*For the author to fill in")
            return first[:begin] + "Forty photos." + first[first.index("\n", begin) :]

        card = self.edited(hub, folder, edit)
        assert "## Training data\n\nForty photos." in card and card.count("For the author to fill in") == 1

    def test_metadata(self, hub, folder):
        card = self.edited(hub, folder, lambda first: first.replace("---\n", "---\nlicense: mit\nlanguage: en\n", 1))
        data = ModelCard(card).data
        assert (data.license, data.language) == ("mit", "en")

    def test_the_folders_words_go_before_its_own(self, hub, folder):
        def edit(first: str) -> str:
            (folder / "README.md").write_text(f"{first}\n## Thanks\n\nTo you.\n")
            return f"{first}\n## Thanks\n\nTo me.\n"

        card = self.edited(hub, folder, edit)
        assert "To you." in card and "To me." not in card

    @pytest.mark.parametrize("damage", [b"\xff", b"---\ntags: [a\n---\n# Mine\n", b"---\nbase_model: 5\n---\n"])
    def test_a_damaged_one_is_replaced_by_the_folders(self, hub, folder, damage):
        to_hub(folder)
        repo = hub.repos["alice/nested"]
        (folder / "README.md").write_text("# Mine\n")
        repo.edit(**{"README.md": damage})
        to_hub(folder)
        assert b"# Mine" in repo.files()["README.md"]
        (folder / "README.md").unlink()
        repo.edit(**{"README.md": damage})
        with pytest.raises(PublishError, match=r"README\.md"):
            to_hub(folder)
