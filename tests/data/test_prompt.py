"""Words to pictures with a tiny pipeline of random weights, made here; and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from skimage.data import astronaut
from skimage.transform import resize

from headsplat.avatar_file import load_avatar
from headsplat.cli import main
from headsplat.data.prompt import FRAMING, TRIES, Diffusion, edit, imagine, load_pipeline
from headsplat.errors import HeadsplatError

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stable Diffusion with a few thousand random weights, whose tokens are letters."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("pipeline")
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (root / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (root / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(
        str(root / "vocab.json"), str(root / "merges.txt"), model_max_length=77, unk_token="<|endoftext|>"
    )
    text = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, bos_token_id=len(words) - 2, eos_token_id=len(words) - 1,
    )  # fmt: skip
    unet = diffusers.UNet2DConditionModel(
        sample_size=32, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), attention_head_dim=2,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=16,
    )  # fmt: skip
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8, 8, 8), norm_num_groups=4, latent_channels=4, sample_size=256,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    pipeline = diffusers.StableDiffusionPipeline(
        vae=vae, text_encoder=transformers.CLIPTextModel(text), tokenizer=tokenizer, unet=unet,
        scheduler=diffusers.DDIMScheduler(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(root / "tiny", safe_serialization=True)
    return root / "tiny"


def portrait() -> np.ndarray:
    return resize(astronaut()[:300, 100:340] / 255, (260, 200)).astype(np.float32)


def test_words_and_seed_make_the_picture(folder: Path) -> None:
    seen: list[float] = []
    first = imagine("a man with a cap", Diffusion(folder, steps=2), progress=seen.append)
    assert first.shape == (256, 256, 3) and first.dtype == np.float32
    assert 0 <= first.min() and first.max() <= 1 and first.std() > 0.001
    assert seen == [0.5, 1.0]
    np.testing.assert_array_equal(first, imagine("a man with a cap", Diffusion(folder, steps=2)))
    for other in (("a woman", 0), ("a man with a cap", 1)):
        assert np.abs(imagine(other[0], Diffusion(folder, seed=other[1], steps=2)) - first).max() > 1e-4


def test_the_next_seeds_are_tried_until_a_picture_is_accepted(folder: Path) -> None:
    pipeline, seeds = load_pipeline(folder, "text"), []

    def third(picture: np.ndarray) -> None:
        seeds.append(picture)
        if len(seeds) < 3:
            raise HeadsplatError("no face")

    made = imagine("somebody", Diffusion(pipeline, seed=5, steps=1), accept=third)
    np.testing.assert_array_equal(made, imagine("somebody", Diffusion(pipeline, seed=7, steps=1)))

    def none(_: np.ndarray) -> None:
        raise HeadsplatError("There is no face in it.")

    with pytest.raises(HeadsplatError, match=rf"None of {TRIES}.*no face in it"):
        imagine("somebody", Diffusion(pipeline, steps=1), accept=none)


def test_words_change_a_portrait_of_any_size(folder: Path) -> None:
    pipeline, image = load_pipeline(folder, "image"), portrait()
    before = image.copy()
    made = edit(image, "as a statue", Diffusion(pipeline, steps=4))
    assert made.shape == image.shape and made.dtype == np.float32 and (image == before).all()
    assert 0 <= made.min() and made.max() <= 1
    np.testing.assert_allclose(made, edit(image, "as a statue", Diffusion(pipeline, steps=4)), atol=1e-6)
    # One step at little strength would be none at all.
    assert edit(image, "x", Diffusion(pipeline, steps=1, strength=0.2)).shape == image.shape


class Instructions:
    """A pipeline of another make: it takes an instruction, and knows nothing of strength or steps."""

    def __init__(self) -> None:
        self.heard: dict[str, Any] = {}

    def __call__(self, prompt: str, image: Any, generator: Any, output_type: str = "pil") -> Any:
        self.heard = {"prompt": prompt, "size": image.size, "output_type": output_type}
        return SimpleNamespace(images=np.full((1, 512, 512, 4), 0.25))


def test_settings_that_a_pipeline_does_not_know_are_left_out() -> None:
    pipeline = Instructions()
    made = edit(portrait(), " make him smile ", Diffusion(pipeline, steps=7))
    assert pipeline.heard == {"prompt": "make him smile", "size": (200, 256), "output_type": "np"}
    assert made.shape == (260, 200, 3) and np.allclose(made, 64 / 255, atol=2 / 255)
    with pytest.raises(HeadsplatError, match="Instructions is not a pipeline for text to image"):
        imagine("somebody", Diffusion(pipeline))


class Painter:
    """A pipeline that can do one thing: paint the astronaut."""

    def __init__(self, picture: np.ndarray) -> None:
        self.picture, self.heard = picture, []

    def __call__(self, prompt: str, image: Any = None, strength: float = 0.5) -> Any:
        self.heard.append((prompt, strength))
        return SimpleNamespace(images=[self.picture])


def test_small_and_broken_pictures_are_refused() -> None:
    with pytest.raises(HeadsplatError, match="only 64 x 64"):
        imagine("somebody", Diffusion(Painter(np.zeros((64, 64, 3)))))
    with pytest.raises(HeadsplatError, match="no picture"):
        imagine("somebody", Diffusion(Painter(np.full((300, 300, 3), np.nan))))
    painter = Painter(np.zeros((300, 300, 3)))
    imagine("somebody", Diffusion(painter))
    edit(portrait(), "old", Diffusion(painter, strength=0.3))
    assert painter.heard == [(f"somebody, {FRAMING}", 0.5), ("old", 0.3)]


def test_folders_that_are_no_safe_pipeline_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(HeadsplatError, match=r"no model_index\.json"):
        load_pipeline(tmp_path, "text")
    with pytest.raises(HeadsplatError, match=r"no model_index\.json"):
        load_pipeline("some-hub/some-model", "text")

    def changed(name: str, **values: Any) -> Path:
        copy = shutil.copytree(folder, tmp_path / name)
        index = json.loads((copy / "model_index.json").read_text())
        (copy / "model_index.json").write_text(json.dumps({**index, **values}))
        return copy

    with pytest.raises(HeadsplatError, match="code of its own"):
        load_pipeline(changed("own-class", _class_name=["pipeline", "Mine"]), "text")
    with pytest.raises(HeadsplatError, match="code of its own"):
        load_pipeline(changed("own-part", unet=["my_unet", "MyUnet"]), "text")
    (tmp_path / "own-part" / "model_index.json").write_text("{")
    with pytest.raises(HeadsplatError, match="damaged"):
        load_pipeline(tmp_path / "own-part", "text")
    pickled = changed("pickled")
    (pickled / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({}, pickled / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(HeadsplatError, match="safetensors"):
        load_pipeline(pickled, "text")


@pytest.mark.parametrize(
    "wrong", [{"strength": 0.0}, {"strength": 1.5}, {"steps": 0}, {"guidance": -1.0}, {"seed": -1}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(HeadsplatError, match="give"):
        Diffusion("x", **wrong)


def test_empty_words_are_refused() -> None:
    with pytest.raises(HeadsplatError, match="prompt is empty"):
        imagine("  ", Diffusion("x"))
    with pytest.raises(HeadsplatError, match="words"):
        edit(portrait(), "", Diffusion("x"))


def test_the_command_line_says_what_is_missing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            main(["create", *words, "-o", str(tmp_path / "a.avatar")])
        assert stopped.value.code == 2
        return " ".join(capsys.readouterr().err.split())

    assert "needs --pipeline" in refused("--prompt", "a man with a cap")
    styled = refused("a.png", "--restyle", "old")
    assert "choose one of pencil, oil, cartoon, film, or give --pipeline" in styled
    assert "one or the other" in refused("a.png", "--prompt", "x", "--pipeline", str(folder))
    assert "model_index.json" in refused("--prompt", "x", "--pipeline", str(tmp_path))
    assert "There is no photo" in refused()
    said = refused("--prompt", "x", "--pipeline", str(folder), "--diffusion-steps", "1")
    assert f"None of {TRIES} pictures" in said and not (tmp_path / "a.png").exists()


def test_words_become_an_avatar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline that paints the astronaut mirrored stands in for one with trained weights."""
    painter = Painter(astronaut()[:, ::-1] / 255)
    monkeypatch.setattr("headsplat.data.prompt.load_pipeline", lambda *_: painter)
    path = tmp_path / "a.avatar"
    words = ["--prompt", "an astronaut", "--restyle", "younger", "--pipeline", "p", "--strength", "0.4"]
    with pytest.raises(SystemExit, match="0"):
        main(["create", *words, "-o", str(path), "--gaussians", "5k", "--refine", "0"])
    avatar = load_avatar(path)
    assert avatar.info["pipeline"] == "p" and avatar.info["source_psnr"] > 15
    assert (avatar.info["prompt"], avatar.info["restyle"]) == ("an astronaut", "younger")
    assert painter.heard[-1] == ("younger", 0.4) and (tmp_path / "a.png").exists()


def test_a_face_too_odd_to_be_found_again_keeps_its_place() -> None:
    from headsplat.reconstruct import _restyled
    from headsplat.track import track_photo

    frame = track_photo(astronaut(), size=256)
    odd = _restyled(frame, lambda image: np.zeros_like(image))
    assert odd.landmarks is frame.landmarks and not odd.foreground.any()
