"""Text for language models, tokenised with the checkpoint's own tokenizer into windows of one length."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InputWarning, ModelkitError
from ..core.forms import Array
from ..core.graph import Input
from .columns import ArrayColumn, Source

WINDOW = 512  # tokens, where the model's input length is free


@dataclass(frozen=True)
class Tokenizer:
    """`encode(text, special)` gives ids, with the tokenizer's special tokens where `special`."""

    encode: Callable[[str, bool], list[int]]
    pad: int
    end: int | None


def read_text(path: Path, inputs: Sequence[Input], folder: Path | None, label: str | None) -> Source:
    """Unlabelled text is joined (documents by the end-of-text token) and cut into windows; its labels are the token ids, for
    metrics that predict the next one. Labelled .jsonl records ({"text": …, "label": …}) are one padded sample each."""
    ids_input, length = _ids_input(inputs, path.name)
    tokenizer = load_tokenizer(folder, path.name)
    texts, labels = _records(path, label)
    if labels is not None:
        encoded = [tokenizer.encode(text, True)[: length or WINDOW] for text in texts]
        ids, mask = _pad(encoded, length, tokenizer.pad)
        if not mask.all() and not any(i.name == "attention_mask" for i in inputs):
            warnings.warn(
                InputWarning(
                    f"{path.name} was padded to {ids.shape[1]} tokens, and the model has no attention_mask to hide that."
                ),
                stacklevel=2,
            )
        return Source(path.name, _columns(ids, mask, inputs, ids_input), labels)
    stream: list[int] = []
    for text in texts:
        stream += tokenizer.encode(text, False)
        if len(texts) > 1 and tokenizer.end is not None:
            stream.append(tokenizer.end)
    window = length or min(WINDOW, len(stream))
    n = len(stream) // window if window else 0
    if n == 0:
        raise ModelkitError(
            f"{path.name} has {len(stream)} tokens, fewer than one window of {window or WINDOW}.", "Give more text."
        )
    ids = np.asarray(stream[: n * window], np.int64).reshape(n, window)
    return Source(path.name, _columns(ids, np.ones_like(ids), inputs, ids_input), ids)


def _ids_input(inputs: Sequence[Input], origin: str) -> tuple[Input, int | None]:
    named = [i for i in inputs if i.name == "input_ids"] or ([inputs[0]] if len(inputs) == 1 else [])
    if not named or "int" not in named[0].dtype or len(named[0].dims) != 2:
        expected = ", ".join(map(str, inputs))
        raise ModelkitError(
            f"{origin} is text, but the model takes {expected}, no token ids.", "Give data of that type, in an .npz for example."
        )
    length = named[0].dims[1]
    return named[0], length if isinstance(length, int) else None


def _columns(ids: Array, mask: Array, inputs: Sequence[Input], ids_input: Input) -> dict[str, ArrayColumn]:
    made = {
        ids_input.name: ids,
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(ids),
        "position_ids": np.broadcast_to(np.arange(ids.shape[1], dtype=np.int64), ids.shape),
    }
    return {i.name: ArrayColumn(made[i.name]) for i in inputs if i.name in made}


def _pad(encoded: Sequence[Sequence[int]], length: int | None, pad: int) -> tuple[Array, Array]:
    width = length or max((len(e) for e in encoded), default=1) or 1
    ids = np.full((len(encoded), width), pad, np.int64)
    mask = np.zeros((len(encoded), width), np.int64)
    for row, tokens in enumerate(encoded):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return ids, mask


def _records(path: Path, label: str | None) -> tuple[list[str], Array | None]:
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelkitError(f"{path.name} is not text in UTF-8.", "Save it again as UTF-8.") from error
    if path.suffix.lower() == ".txt":
        return [content], None
    texts, labels = [], []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            texts.append(record["text"] if isinstance(record, dict) else record)
            if not isinstance(texts[-1], str):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ModelkitError(
                f'{path.name}, line {number} is not a record {{"text": "…"}}.', "Give one JSON object per line."
            ) from error
        labels.append(record.get(label or "label") if isinstance(record, dict) else None)
    if label is None and all(value is None for value in labels):
        return texts, None
    wrong = next((i for i, value in enumerate(labels, 1) if not isinstance(value, (int, float))), None)
    if wrong is not None:
        raise ModelkitError(f"{path.name}, record {wrong} has no number as its {label or 'label'!r}.", "Give every record one.")
    return texts, np.asarray(labels)


def load_tokenizer(folder: Path | None, origin: str) -> Tokenizer:
    """The tokenizer of a checkpoint folder: `tokenizer.json` through tokenizers, anything else through transformers."""
    if folder is None:
        raise ModelkitError(
            f"{origin} is text, and the model comes with no tokenizer.",
            "Give token ids in an .npz, or a checkpoint folder as the model.",
        )
    try:
        if (folder / "tokenizer.json").is_file():
            return _fast(folder)
        return _from_transformers(folder)
    except ImportError as error:
        raise ModelkitError("Reading text needs a tokenizer library.", "pip install 'modelkit[text]'") from error
    except Exception as error:  # both libraries raise bare Exception, and many kinds of it, for a file they can't read
        said = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ModelkitError(
            f"The tokenizer in {folder} can't be loaded: {said}.", "Give a folder with a tokenizer.json."
        ) from error


def _fast(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer as Fast

    fast = Fast.from_file(str(folder / "tokenizer.json"))
    fast.no_padding()
    fast.no_truncation()
    settings = folder / "tokenizer_config.json"
    config: dict[str, Any] = json.loads(settings.read_text(encoding="utf-8")) if settings.is_file() else {}
    end = _token_id(fast.token_to_id, config.get("eos_token"))
    pad = _token_id(fast.token_to_id, config.get("pad_token"))
    return Tokenizer(
        lambda text, special: list(fast.encode(text, add_special_tokens=special).ids), end or 0 if pad is None else pad, end
    )


def _token_id(find: Callable[[str], int | None], token: Any) -> int | None:
    text = token.get("content") if isinstance(token, dict) else token
    return find(text) if isinstance(text, str) else None


def _from_transformers(folder: Path) -> Tokenizer:
    from transformers import AutoTokenizer

    slow = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    pad = slow.pad_token_id if slow.pad_token_id is not None else slow.eos_token_id or 0
    return Tokenizer(lambda text, special: list(slow.encode(text, add_special_tokens=special)), pad, slow.eos_token_id)
