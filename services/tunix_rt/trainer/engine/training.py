"""One attempt from job to exported model: load, tokenise, restore, train, export.

Runs in the training process and may block. It communicates with the service only through ``emit`` and `Control`.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, cast

import jax
from flax import nnx

from tunix_rt import __version__
from tunix_rt.artifacts import ArtifactStore
from tunix_rt.contract.generation import PROMPT_VERSION
from tunix_rt.contract.hyperparameters import check_hyperparameters, warnings_of
from tunix_rt.contract.lines import lines_of
from tunix_rt.errors import FieldViolation, InvalidArtifact, InvalidInput, Violations
from tunix_rt.models.compilation_cache import machine_fingerprint
from tunix_rt.models.config import ComputeDtype
from tunix_rt.models.export import ExportForm, export_hugging_face
from tunix_rt.models.kept_settings import KeptSettings
from tunix_rt.models.loading import LanguageModel, kept_of, load
from tunix_rt.models.tokenizer import NO_TEMPLATE
from tunix_rt.traces.render import render_messages
from tunix_rt.traces.schema import Trace, parse_traces
from tunix_rt.trainer.engine.base_models import find_base
from tunix_rt.trainer.engine.checkpoint_store import open_checkpoints
from tunix_rt.trainer.engine.checkpoints import CheckpointDirectory
from tunix_rt.trainer.engine.data import BatchStream, Rendered, count_steps
from tunix_rt.trainer.engine.distributed import ALONE, Cluster
from tunix_rt.trainer.engine.divergence import DivergenceWatch
from tunix_rt.trainer.engine.early_stopping import EarlyStopping
from tunix_rt.trainer.engine.flops import count_step_flops
from tunix_rt.trainer.engine.hardware import machine_peak, program_bytes
from tunix_rt.trainer.engine.loop import STOPPING, Control, Instruments, TrainingLoop
from tunix_rt.trainer.engine.lora import adapt, export_adapters
from tunix_rt.trainer.engine.optimizer import coefficients_of
from tunix_rt.trainer.engine.orbax_checkpoints import CheckpointSaver, Position, adopt, parameters_digest, read_state
from tunix_rt.trainer.engine.preparation import Prepared, prepare
from tunix_rt.trainer.engine.rendering import ExampleRenderer
from tunix_rt.trainer.engine.sharding import Layout, host_memory, layout_on, make_mesh
from tunix_rt.trainer.engine.step import Frozen, HeldOut, TrainState, build_eval_step, build_step, initial_state
from tunix_rt.trainer.job import InitialCheckpoint, Job
from tunix_rt.trainer.messages import CheckpointWritten, Completed, FromChild, Logged, ProgressMade, Resumed

Emit = Callable[[FromChild], None]
# Of tokenizing.
_SECONDS_BETWEEN_COUNTS: Final = 5.0


class Training:
    """One attempt of one run, in this process or in all processes of ``cluster``."""

    def __init__(self, job: Job, emit: Emit, control: Control, cluster: Cluster = ALONE) -> None:
        self._job, self._hp, self._emit, self._control = job, job.hyperparameters, emit, cluster.control(control)
        self._cluster = cluster
        self._store = ArtifactStore(job.artifacts_uri, cache_dir=Path(job.cache_dir) / "artifacts")
        self._total = 0

    def run(self) -> None:
        """Train to the end. The leader emits `Completed`; any other ending is an exception."""
        found = Violations("hyperparameters.")
        check_hyperparameters(self._hp, found)
        found.raise_if_any()
        mesh = make_mesh(self._hp.mesh)
        checkpoints = open_checkpoints(self._store, self._job)
        if self._job.initial_checkpoint is not None and not self._cluster.agreed(checkpoints.steps):
            self._adopt(self._job.initial_checkpoint, checkpoints)
        self._stage("loading the dataset")
        traces = self._dataset()
        self._stage("loading the model")
        with host_memory(self._hp.mesh):
            model = self._load(traces)
        kept = self._kept(model)
        layout = layout_on(mesh, model.config)
        self._stage("tokenizing")
        prepared = self._prepare(model, traces)
        stream = prepared.stream(self._hp, rows=self._rows)
        self._total = self._hp.max_steps or count_steps(stream, len(prepared.training), self._hp.num_epochs or 1)
        self._check_duration()
        for warning in warnings_of(self._hp, self._total):
            self._log(warning, level="warning")
        coefficients = coefficients_of(self._hp, self._total)
        kind = self._hp.optimizer
        graph, state, frozen = initial_state(
            model.decoder, coefficients, seed=self._hp.seed, layout=layout, optimizer=kind
        )
        watch = DivergenceWatch(model.config.vocab_size)
        stopping = EarlyStopping(self._hp.early_stopping_patience, self._hp.early_stopping_threshold)
        state, start, unreported = self._restore(checkpoints, state, stream, watch, stopping)
        self._stage("compiling", start)
        began = time.perf_counter()
        step = build_step(
            graph,
            self._hp.lr_scheduler_type,
            remat=self._hp.gradient_checkpointing,
            layout=layout,
            optimizer=kind,
        )
        compiled = step.lower(state, frozen, layout.place_rows(self._peek(stream)), coefficients).compile()
        self._log(
            f"compiled the training step in {time.perf_counter() - began:.1f} s; "
            f"a device holds {program_bytes(compiled) / 2**20:,.0f} MiB while it runs"
        )
        held_out = self._held_out(prepared, graph, state, frozen, layout)
        instruments = Instruments(
            count_step_flops(model.config, state.parameters, frozen.parameters),
            self._peak(),
            watch,
            held_out,
            stopping,
        )
        with CheckpointSaver(checkpoints, self._emit, leads=self._cluster.is_leader) as saver:
            loop = TrainingLoop(
                lambda state, frozen, batch, c: compiled(state, frozen, layout.place_rows(batch), c),
                frozen,
                stream,
                saver,
                self._hp,
                coefficients,
                self._total,
                instruments,
                self._emit,
                self._control,
            )
            state = loop.run(state, start, unreported)
            last = exported = loop.last_step
            if last < self._total:
                patience = self._hp.early_stopping_patience
                self._log(f"stopped early at step {last}: {patience} evaluations without a lower held-out loss")
            saver.wait()
            if self._hp.load_best_model_at_end:
                state, exported = self._best(checkpoints, state, last)
            self._stage("exporting the model", last)
            completed = self._export(model, graph, state, frozen, prepared, kept, exported)
        if completed is None:
            return
        completed.lineage["trained_steps"] = str(last)
        best = checkpoints.best(last)
        if best is not None:
            self._log(f"lowest held-out loss of a checkpoint: {best.eval_loss:.4f} at step {best.step}")
            completed.lineage.update(best_step=str(best.step), best_eval_loss=str(best.eval_loss))
        self._emit(completed)

    def _dataset(self) -> list[Trace]:
        dataset = self._job.dataset
        size = sum(file.size_bytes for file in dataset.files)
        data = self._store.get_bytes(dataset.uri, dataset.digest, size_bytes=size)
        try:
            return parse_traces(lines_of(data))
        except (InvalidInput, UnicodeDecodeError) as error:
            raise InvalidArtifact(f"dataset {self._job.dataset_id}: {error}") from error

    def _load(self, traces: list[Trace]) -> LanguageModel:
        source = find_base(self._job, self._store)
        texts = (message["content"] for trace in traces for message in render_messages(trace))
        model = load(source, texts=texts, seed=self._hp.seed, compute_dtype=cast(ComputeDtype, self._hp.dtype))
        self._log(f"{self._job.base_model}: {model.config.family}, {model.config.parameter_count:,} parameters")
        self._use_template(model)
        end = model.tokenizer.token_text(model.tokenizer.end_of_turn())
        self._log(f"an answer ends with {end!r}")
        for warning in model.warnings:
            self._log(warning, level="warning")
        if self._hp.lora is not None:
            settings = adapt(model.decoder, self._hp.lora, seed=self._hp.seed)
            targets = ", ".join(settings.target_modules)
            self._log(f"LoRA of rank {settings.rank}, alpha {settings.alpha:g} on {targets}; all else is frozen")
        return model

    def _kept(self, model: LanguageModel) -> KeptSettings:
        """What the exported model keeps of its base; read before training, so that a damaged file costs nothing."""
        kept = kept_of(model.source)
        if kept.left_out:
            self._log(f"not kept in the exported model: {', '.join(kept.left_out)}", level="warning")
        return kept

    def _use_template(self, model: LanguageModel) -> None:
        if not self._hp.chat_template:
            if model.tokenizer.chat_template is None:
                raise InvalidInput([FieldViolation("hyperparameters.chat_template", NO_TEMPLATE)])
            return
        try:
            model.tokenizer.use_template(self._hp.chat_template)
        except InvalidArtifact as error:
            raise InvalidInput([FieldViolation("hyperparameters.chat_template", str(error))]) from error

    @property
    def _rows(self) -> int:
        """Rows per accumulation part, on all devices together."""
        return self._hp.per_device_batch_size * self._hp.mesh.data * self._hp.mesh.fsdp

    def _prepare(self, model: LanguageModel, traces: list[Trace]) -> Prepared:
        render = ExampleRenderer(
            model.tokenizer, model.config.vocab_size, parse_control_tokens=self._hp.parse_control_tokens
        )
        rendered = self._with_progress(render([render_messages(trace) for trace in traces]), len(traces))
        prepared = prepare(rendered, self._hp, model.config.max_position_embeddings)
        lost = prepared.tokenized.dropped or prepared.tokenized.truncated
        self._log(str(prepared), level="warning" if lost else "info")
        if render.warning:
            self._log(render.warning, level="warning")
        return prepared

    def _with_progress(self, rendered: Iterable[Rendered], total: int) -> Iterator[Rendered]:
        """``rendered``; a line of the log and the stage say how far it is, every few seconds."""
        said = time.monotonic()
        for number, example in enumerate(rendered):
            if time.monotonic() - said >= _SECONDS_BETWEEN_COUNTS:
                said = time.monotonic()
                self._stage(f"tokenizing: {number:,} of {total:,}")
                self._log(f"tokenized {number:,} of {total:,} examples")
            yield example

    def _held_out(
        self, prepared: Prepared, graph: Any, state: TrainState, frozen: Frozen, layout: Layout
    ) -> HeldOut | None:
        if not self._hp.eval_steps:
            return None
        batches = [layout.place_rows(batch) for batch in prepared.held_out(rows=self._rows)]
        began = time.perf_counter()
        step = build_eval_step(graph, layout).lower(state.parameters, frozen.parameters, batches[0]).compile()
        self._log(f"compiled the evaluation step in {time.perf_counter() - began:.1f} s; {len(batches)} batches of it")
        return HeldOut(step, batches)

    def _peak(self) -> float:
        peak = machine_peak(self._hp.mesh.size, Path(self._job.cache_dir) / "peaks" / f"{machine_fingerprint()}.json")
        self._log(f"model FLOPs utilisation is a share of {peak.flops / 1e9:,.1f} GFLOP/s ({peak.source})")
        return peak.flops

    def _best(self, checkpoints: CheckpointDirectory, state: TrainState, last: int) -> tuple[TrainState, int]:
        """The state with the lowest held-out loss and its step; ``state`` itself where that is the one of ``last``."""

        def find() -> int:
            best = checkpoints.best(last)
            return last if best is None else best.step

        step: int = self._cluster.agreed(find)
        if step == last:
            return state, last
        found, _ = read_state(self._verified(checkpoints, step), state)
        self._log(f"exports the checkpoint of step {step}, which has the lowest held-out loss")
        return found, step

    def _restore(
        self,
        checkpoints: CheckpointDirectory,
        state: TrainState,
        stream: BatchStream,
        watch: DivergenceWatch,
        stopping: EarlyStopping,
    ) -> tuple[TrainState, int, tuple[dict[str, Any], ...]]:
        """Resume from the newest valid checkpoint, else start from the beginning; logged either way."""
        present: list[int] = self._cluster.agreed(checkpoints.steps)
        for step in sorted(set(self._job.recorded_steps) - set(present), reverse=True):
            self._log(f"the checkpoint of step {step} is recorded but not in the store", level="warning")
        for step in present:
            try:
                restored, position = read_state(self._verified(checkpoints, step), state)
            except InvalidArtifact as error:
                self._log(f"cannot resume from step {step}: {error}; falling back", level="warning")
                continue
            break
        else:
            if present:
                self._log("no checkpoint is usable; starting from the beginning", level="warning")
            if self._job.initial_checkpoint is None:
                return state, 0, ()
            step = self._job.initial_checkpoint.step
            self._adopt(self._job.initial_checkpoint, checkpoints)
            restored, position = read_state(self._verified(checkpoints, step), state)
        self._check_position(step, position)
        stream.seek(position.data)
        watch.seek(position.watch)
        stopping.seek(position.watch.get(STOPPING, {}))
        self._log(f"resumed from the checkpoint of step {step}")
        self._emit(Resumed(step))
        return restored, step, position.unreported

    def _adopt(self, source: InitialCheckpoint, checkpoints: CheckpointDirectory) -> None:
        """Copy ``source`` to this run's checkpoints. Raises `InvalidArtifact` when it is missing or damaged."""

        def copy() -> dict[str, str]:
            try:
                stored, removed = adopt(source, self._store, checkpoints)
            except InvalidArtifact as error:
                return {"problem": str(error)}
            self._emit(CheckpointWritten(source.step, stored.uri, stored.digest, stored.size_bytes, tuple(removed)))
            return {}

        found = self._cluster.agreed(copy)
        if "problem" in found:
            raise InvalidArtifact(found["problem"])
        self._log(f"starts from the checkpoint of step {source.step} of run {source.run_id}")

    def _check_duration(self) -> None:
        initial = self._job.initial_checkpoint
        if initial is not None and self._total <= initial.step:
            problem = f"count from step 0: {self._total} steps do not exceed {initial.step}, where the run starts"
            raise InvalidInput([FieldViolation("hyperparameters.max_steps", problem)])

    def _verified(self, checkpoints: CheckpointDirectory, step: int) -> Path:
        def verify() -> dict[str, str]:
            try:
                return {"directory": str(checkpoints.open(step))}
            except InvalidArtifact as error:
                return {"problem": str(error)}

        found = self._cluster.agreed(verify)
        if "problem" in found:
            raise InvalidArtifact(found["problem"])
        return Path(found["directory"])

    def _check_position(self, step: int, position: Position) -> None:
        if position.seed != self._hp.seed:
            raise InvalidArtifact(f"checkpoint {step} was made with seed {position.seed}, the run has {self._hp.seed}")

    def _peek(self, stream: BatchStream) -> Any:
        position = stream.position()
        batch = next(stream)
        stream.seek(position)
        return batch

    def _export(
        self,
        model: LanguageModel,
        graph: Any,
        state: TrainState,
        frozen: Frozen,
        prepared: Prepared,
        kept: KeptSettings,
        step: int,
    ) -> Completed | None:
        trained, untouched = self._cluster.whole((state.parameters, frozen.parameters))
        if not self._cluster.is_leader:
            return None
        decoder = nnx.merge(graph, trained, untouched)
        config = dataclasses.replace(model.config, compute_dtype="float32")
        with tempfile.TemporaryDirectory(prefix="export-", dir=self._job.work_dir) as directory:
            if self._hp.lora is None:
                form = ExportForm(self._hp.export_dtype)
                export_hugging_face(decoder, config, model.tokenizer, Path(directory), form=form, kept=kept)
            else:
                export_adapters(decoder, self._hp.lora, config, model, self._job, self._store, Path(directory), kept)
            stored = self._store.put_directory(Path(directory))
        lineage = {
            "run_id": self._job.run_id,
            "attempt": str(self._job.attempt),
            "step": str(step),
            "spec_digest": self._job.spec_digest,
            "dataset_id": self._job.dataset_id,
            "dataset_digest": self._job.dataset.digest,
            "base_model": self._job.base_model,
            "base_model_digest": model.digest,
            "parameters_digest": parameters_digest(trained),
            "seed": str(self._hp.seed),
            **_lineage_of(self._job.initial_checkpoint),
            **prepared.account,
            "prompt_version": str(PROMPT_VERSION),
            "code_version": __version__,
            "jax_version": jax.__version__,
        }
        return Completed(step, stored, lineage)

    def _stage(self, stage: str, done: int = 0) -> None:
        self._emit(ProgressMade(stage, done, self._total or self._hp.max_steps or 0))

    def _log(self, text: str, *, level: str = "info") -> None:
        self._emit(Logged(level, text, time.time()))


def _lineage_of(initial: InitialCheckpoint | None) -> dict[str, str]:
    if initial is None:
        return {}
    return {
        "initial_checkpoint_run_id": initial.run_id,
        "initial_checkpoint_step": str(initial.step),
        "initial_checkpoint_digest": initial.digest,
    }
