"""What tasks share whose models write: settings of `generate` from four places, rows with what was written for them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any, ClassVar

from ..words import Words
from .base import Pipeline, Row

# Without effect unless tokens are drawn, where `generate` warns about them
_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
# With these rows are computed one by one: they see or return all rows of a batch with its padding
_ALONE = (
    "streamer",
    "logits_processor",
    "stopping_criteria",
    "prefix_allowed_tokens_fn",
    "return_dict_in_generate",
    "prompt_lookup_num_tokens",
)


class ReturnType(Words):
    """What of an answer is returned: ids, text, or for text-generation the text with its prompt."""

    TENSORS = "tensors"
    NEW_TEXT = "new_text"
    FULL_TEXT = "full_text"


class Written(dict[str, Any]):
    """What was written for a row: "sequences", lists of ids, and what else `generate` returned of each of them."""


class GenerationPipeline(Pipeline):
    """A model's settings, from the weakest: the task's defaults, the model's generation_config, its configuration's
    `task_specific_params` for the task, those of the pipeline and of the call."""

    kinds: ClassVar[tuple[str, ...]]
    defaults: ClassVar[dict[str, Any]]
    padding_side: ClassVar[str]
    # whether lengths count the prompt, which then must have no padding
    counts_prompt: ClassVar[bool]

    def _check_model(self) -> None:
        super()._check_model()
        names = [cls.__name__ for cls in type(self.model).__mro__]
        if not any(name.endswith(kind) for name in names for kind in self.kinds):
            _logger().error("The model '%s' is not supported for %s: one for %s is.", names[0], self.task, self.kinds[0])

    def numbers_per_token(self) -> int:
        config = self.model.config
        width: int = getattr(config, "hidden_size", None) or getattr(config, "d_model", None) or 1024
        return width

    @cached_property
    def _task_settings(self) -> dict[str, Any]:
        of_tasks = getattr(self.model.config, "task_specific_params", None) or {}
        return dict(of_tasks.get(self.task) or {})

    @property
    def prefix(self) -> str | None:
        """What the model's configuration wants before each text."""
        found = self._task_settings.get("prefix")
        return getattr(self.model.config, "prefix", None) if found is None else found

    # --- settings -----------------------------------------------------------------------------
    def _said(self, given: dict[str, Any]) -> dict[str, Any]:
        """The settings that somebody gave a value."""
        models = getattr(self.model, "generation_config", None)
        own = {} if models is None else models.to_diff_dict()
        config = given.get("generation_config")
        passed = {} if config is None else config.to_diff_dict()
        return own | self._settings_of_task() | passed | given

    def _settings_of_task(self) -> dict[str, Any]:
        return {name: value for name, value in self._task_settings.items() if name != "prefix"}

    def _settings(self, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments of `generate`."""
        said = self._said(given)
        passed = given.get("generation_config")
        taken = set() if passed is None else set(passed.to_diff_dict())
        added = {name: value for name, value in self._settings_of_task().items() if name not in taken | set(given)}
        if self.tokenizer.pad_token_id is not None and "pad_token_id" not in said:
            added["pad_token_id"] = self.tokenizer.pad_token_id
        for name, value in self.defaults.items():
            if name not in said and not (name == "max_new_tokens" and "max_length" in said):
                added[name] = value
        if not (said | added).get("do_sample"):
            added = {name: value for name, value in added.items() if name not in _SAMPLING}
        if passed is None:
            return given | added
        import copy

        config = copy.deepcopy(passed)
        config.update(**added)
        return given | {"generation_config": config}

    def _of_total_length(self, said: dict[str, Any]) -> bool:
        """Whether a prompt's length says how much is written."""
        pairs = (("max_length", "max_new_tokens"), ("min_length", "min_new_tokens"))
        return any(total in said and new not in said for total, new in pairs)

    # --- the call -----------------------------------------------------------------------------
    def stream(
        self,
        inputs: Iterable[Any],
        batch_size: int,
        ahead: bool,
        preprocess: dict[str, Any],
        postprocess: dict[str, Any],
        compute: dict[str, Any] | None = None,
    ) -> Iterator[Any]:
        given = dict(compute or {})
        said = self._said(given)
        if any(said.get(name) for name in _ALONE) or (self.counts_prompt and self._of_total_length(said)):
            batch_size = 1
        if isinstance(given.get("seed"), int):
            # each row's, as if all were one batch
            from ..trainer_utils import mix_seeds

            seed = given["seed"]
            given["seed"] = (mix_seeds(seed, number) for number in itertools.count())
        return super().stream(inputs, batch_size, ahead, preprocess, postprocess, given)

    def compute(self, rows: list[Row], **given: Any) -> list[Written]:
        seeds = given.get("seed")
        if isinstance(seeds, Iterator):
            given = given | {"seed": list(itertools.islice(seeds, len(rows)))}
        arrays: dict[str, Any] = self._padded([row.inputs for row in rows], self.padding_side)
        width = arrays["input_ids"].shape[1]
        if width == 0:
            arrays = {"input_ids": None, "attention_mask": None}
        outputs = self.model.generate(**arrays, **self._settings(given))
        sequences = outputs if hasattr(outputs, "shape") else outputs.sequences
        others = {} if sequences is outputs else _by_sequence(outputs, len(sequences))
        copies = len(sequences) // max(len(rows), 1)
        written = []
        for number, row in enumerate(rows):
            some = slice(number * copies, (number + 1) * copies)
            start = width - len(row.inputs["input_ids"]) if self.counts_prompt else 0
            ids = [sequence[start:] for sequence in sequences[some].tolist()]
            parts = {name: values[some] for name, values in others.items()}
            written.append(Written(sequences=self._trimmed(ids, given), **parts))
        return written

    def _trimmed(self, sequences: list[list[int]], given: dict[str, Any]) -> list[list[int]]:
        """Without the padding that an item has for other items' sake; the end of a sequence may be written as padding is."""
        settings = self._said(self._settings(given))
        pad, eos = settings.get("pad_token_id"), settings.get("eos_token_id")
        ends = set(eos) if isinstance(eos, (list, tuple)) else {eos}
        pad = pad if pad is not None else next(iter(ends))
        counts = []
        for sequence in sequences:
            count = sum(1 for _ in itertools.takewhile(lambda id: id == pad, reversed(sequence)))
            counts.append(max(count - (pad in ends), 0))
        unused = min(counts, default=0)
        return [sequence[: len(sequence) - unused] for sequence in sequences]

    def keep(self, outputs: Any, index: int, row: Row) -> Any:
        return outputs[index]

    def _decoded(self, ids: list[int], clean_up: bool | None, skip_special_tokens: bool = True) -> str:
        text: str = self.tokenizer.decode(
            ids, skip_special_tokens=skip_special_tokens, clean_up_tokenization_spaces=clean_up
        )
        return text


def _by_sequence(outputs: Any, count: int) -> dict[str, list[Any]]:
    """Of what `generate` returned beside sequences, the arrays with a row for each, as lists."""
    arrays = {name: value for name, value in outputs.items() if hasattr(value, "tolist") and name != "sequences"}
    return {name: value.tolist() for name, value in arrays.items() if len(value) == count}


def _logger() -> Any:
    import logging

    return logging.getLogger(__name__)
