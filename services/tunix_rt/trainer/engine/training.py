"""One attempt from job to exported model: load, tokenize, restore, train, export.

Runs in the training process and may block. Talks to the service only through ``emit`` and `Control`.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jax
from flax import nnx

from tunix_rt import __version__
from tunix_rt.artifacts import ArtifactStore
from tunix_rt.errors import InvalidArtifact, InvalidInput, Violations
from tunix_rt.models.chat import render_example
from tunix_rt.models.config import ComputeDtype
from tunix_rt.models.export import export_hugging_face
from tunix_rt.models.loading import LoadedModel, load
from tunix_rt.models.references import resolve
from tunix_rt.traces.render import render_completion
from tunix_rt.traces.schema import parse_traces
from tunix_rt.trainer.engine.batches import row_length
from tunix_rt.trainer.engine.checkpoint_store import open_checkpoints
from tunix_rt.trainer.engine.checkpoints import CheckpointDirectory
from tunix_rt.trainer.engine.data import BatchStream, count_steps
from tunix_rt.trainer.engine.examples import Tokenized, tokenize
from tunix_rt.trainer.engine.loop import Control, TrainingLoop
from tunix_rt.trainer.engine.optimizer import coefficients_of
from tunix_rt.trainer.engine.orbax_checkpoints import Position, parameters_digest, read_state
from tunix_rt.trainer.engine.saving import CheckpointSaver
from tunix_rt.trainer.engine.step import TrainState, build_step, initial_state
from tunix_rt.trainer.hyperparameters import check_hyperparameters
from tunix_rt.trainer.job import Job
from tunix_rt.trainer.messages import Completed, FromChild, Logged, ProgressMade

Emit = Callable[[FromChild], None]


class Training:
    """One attempt of one run."""

    def __init__(self, job: Job, emit: Emit, control: Control) -> None:
        self._job, self._hp, self._emit, self._control = job, job.hyperparameters, emit, control
        self._store = ArtifactStore(job.artifacts_uri, cache_dir=Path(job.cache_dir) / "artifacts")
        self._total = 0

    def run(self) -> None:
        """Train to the end and emit `Completed`; anything else is raised."""
        found = Violations("hyperparameters.")
        check_hyperparameters(self._hp, found)
        found.raise_if_any()
        self._stage("loading the dataset")
        pairs = self._dataset()
        self._stage("loading the model")
        model = self._load(pairs)
        self._stage("tokenizing")
        tokenized = self._tokenize(model, pairs)
        stream = self._stream(tokenized)
        self._total = self._hp.max_steps or count_steps(stream, len(tokenized.examples), self._hp.num_epochs or 1)
        coefficients = coefficients_of(self._hp, self._total)
        graph, state = initial_state(model.decoder, coefficients)
        checkpoints = open_checkpoints(self._store.root_uri, self._job)
        state, start, unreported = self._restore(checkpoints, state, stream)
        self._stage("compiling", start)
        began = time.perf_counter()
        step = build_step(graph, self._hp.lr_scheduler_type, remat=self._hp.gradient_checkpointing)
        compiled = step.lower(state, self._peek(stream), coefficients).compile()
        self._log(f"compiled the training step in {time.perf_counter() - began:.1f} s")
        with CheckpointSaver(checkpoints, self._emit) as saver:
            loop = TrainingLoop(compiled, stream, saver, self._hp, coefficients, self._total, self._emit, self._control)
            state = loop.run(state, start, unreported)
            self._stage("exporting the model", self._total)
            completed = self._export(model, graph, state)
            saver.wait()
        self._emit(completed)

    def _dataset(self) -> list[tuple[str, str]]:
        data = self._store.get_bytes(self._job.dataset.uri, self._job.dataset.digest)
        try:
            traces = parse_traces(data.decode("utf-8").split("\n"))
        except (InvalidInput, UnicodeDecodeError) as error:
            raise InvalidArtifact(f"dataset {self._job.dataset_id}: {error}") from error
        return [(trace.prompt, render_completion(trace)) for trace in traces]

    def _load(self, pairs: list[tuple[str, str]]) -> LoadedModel:
        reference = self._job.base_model
        if self._job.base_model_artifact is not None:
            artifact = self._job.base_model_artifact
            reference = self._store.local_directory(artifact.uri, artifact.digest).absolute().as_uri()
        elif reference.startswith("model://"):
            raise InvalidArtifact(f"{reference}: the registry gave no artifact for it")
        source = resolve(reference, cache_dir=Path(self._job.cache_dir))
        texts = (text for pair in pairs for text in pair)
        model = load(source, texts=texts, seed=self._hp.seed, compute_dtype=cast(ComputeDtype, self._hp.dtype))
        self._log(f"{self._job.base_model}: {model.config.family}, {model.config.parameter_count:,} parameters")
        return model

    def _tokenize(self, model: LoadedModel, pairs: list[tuple[str, str]]) -> Tokenized:
        budget = min(self._hp.max_seq_length, model.config.max_position_embeddings)
        tokenized = tokenize(
            pairs,
            lambda prompt, completion: render_example(model.tokenizer, prompt, completion),
            max_length=budget,
            overlong=self._hp.overlong,
        )
        self._log(
            f"{len(tokenized.examples)} examples, {tokenized.tokens:,} tokens (longest {tokenized.longest}); "
            f"{tokenized.dropped} dropped and {tokenized.truncated} cut at {budget} tokens",
            level="warning" if tokenized.dropped or tokenized.truncated else "info",
        )
        self._budget = budget
        return tokenized

    def _stream(self, tokenized: Tokenized) -> BatchStream:
        longest = max(example.length for example in tokenized.examples)
        return BatchStream(
            tokenized.examples,
            rows=self._hp.per_device_batch_size,
            accumulation=self._hp.gradient_accumulation_steps,
            length=row_length(longest, self._budget, packing=self._hp.packing),
            packing=self._hp.packing,
            seed=self._hp.seed,
        )

    def _restore(
        self, checkpoints: CheckpointDirectory, state: TrainState, stream: BatchStream
    ) -> tuple[TrainState, int, tuple[dict[str, Any], ...]]:
        """The newest checkpoint that is whole, else the start; says so in the log."""
        present = checkpoints.steps()
        for step in sorted(set(self._job.recorded_steps) - set(present), reverse=True):
            self._log(f"the checkpoint of step {step} is recorded but not in the store", level="warning")
        for step in present:
            try:
                restored, position = read_state(checkpoints.open(step), state)
            except InvalidArtifact as error:
                self._log(f"cannot resume from step {step}: {error}; falling back", level="warning")
                continue
            self._check_position(step, position)
            stream.seek(position.data)
            self._log(f"resumed from the checkpoint of step {step}")
            return restored, step, position.unreported
        if present:
            self._log("no checkpoint is usable; starting from the beginning", level="warning")
        return state, 0, ()

    def _check_position(self, step: int, position: Position) -> None:
        if position.seed != self._hp.seed:
            raise InvalidArtifact(f"checkpoint {step} was made with seed {position.seed}, the run has {self._hp.seed}")

    def _peek(self, stream: BatchStream) -> Any:
        position = stream.position()
        batch = next(stream)
        stream.seek(position)
        return batch

    def _export(self, model: LoadedModel, graph: Any, state: TrainState) -> Completed:
        decoder = nnx.merge(graph, state.parameters)
        config = dataclasses.replace(model.config, compute_dtype="float32")
        with tempfile.TemporaryDirectory(prefix="export-", dir=self._job.work_dir) as directory:
            export_hugging_face(decoder, config, model.tokenizer, Path(directory))
            stored = self._store.put_directory(Path(directory))
        lineage = {
            "run_id": self._job.run_id,
            "attempt": str(self._job.attempt),
            "step": str(self._total),
            "spec_digest": self._job.spec_digest,
            "dataset_id": self._job.dataset_id,
            "dataset_digest": self._job.dataset.digest,
            "base_model": self._job.base_model,
            "base_model_digest": model.digest,
            "parameters_digest": parameters_digest(state.parameters),
            "seed": str(self._hp.seed),
            "code_version": __version__,
            "jax_version": jax.__version__,
        }
        return Completed(self._total, stored, lineage)

    def _stage(self, stage: str, done: int = 0) -> None:
        self._emit(ProgressMade(stage, done, self._total or self._hp.max_steps or 0))

    def _log(self, text: str, *, level: str = "info") -> None:
        self._emit(Logged(level, text, time.time()))
