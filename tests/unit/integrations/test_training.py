"""Scores in people's own training: what monitors, early stopping and logs see, and what is not scored twice."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tests.vocabularies import save_family

import lossary
from lossary.errors import UsageError
from lossary.folder import StudyFolder
from lossary.integrations.live import LiveScores
from lossary.integrations.transformers import LossaryCallback
from lossary.study import Study

pytestmark = pytest.mark.frameworks


@pytest.fixture
def study(prepared: tuple[Study, StudyFolder], tmp_path: Path) -> Path:
    shutil.copytree(prepared[1].root, tmp_path / "study")
    return tmp_path / "study"


@pytest.fixture(scope="module")
def bert_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_family("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture
def tokenizer(bert_folder: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(bert_folder)


@pytest.fixture
def model(tokenizer: Any) -> Any:
    torch.manual_seed(1)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        pad_token_id=tokenizer.pad_token_id,
    )
    return transformers.BertForMaskedLM(config)


class Planted(torch.optim.SGD):
    """An optimizer that puts noise into the bias of the head, as much as a plan says: what is best is known."""

    def __init__(self, parameters: Any, plan: list[float]) -> None:
        super().__init__(parameters, lr=0.0)
        self.plan = iter(plan)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        del closure
        noise = next(self.plan)
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.normal_(0, noise, generator=torch.Generator().manual_seed(0))


def trainer_of(model: Any, tokenizer: Any, out: Path, plan: list[float], **more: Any) -> transformers.Trainer:
    rows = [tokenizer("hello world, this is a text about things", max_length=16, truncation=True) for _ in range(8)]
    settings: dict[str, Any] = {
        "output_dir": str(out),
        "max_steps": len(plan),
        "per_device_train_batch_size": 4,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "logging_steps": 1,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
    }
    head = [parameter for name, parameter in model.named_parameters() if name == "cls.predictions.bias"]
    assert head
    return transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(**settings | more.pop("arguments", {})),
        train_dataset=rows,
        eval_dataset={"first": rows[:2], "second": rows[2:4]},
        data_collator=transformers.DataCollatorForLanguageModeling(tokenizer),
        processing_class=tokenizer,
        optimizers=(Planted(head, plan), None),
        **more,
    )


def logged(trainer: transformers.Trainer, name: str) -> dict[int, float]:
    return {row["step"]: row[name] for row in trainer.state.log_history if name in row}


def test_the_best_checkpoint_is_chosen_by_a_total_of_the_study(
    study: Path, model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    plan = [3.0, 0.01, 5.0]
    arguments = {"metric_for_best_model": "eval_total_mlm_loss", "greater_is_better": False}
    trainer = trainer_of(model, tokenizer, tmp_path / "out", plan, arguments=arguments)
    LossaryCallback(study, run="mine").attach(trainer)
    trainer.train()
    assert trainer.state.best_model_checkpoint == str(tmp_path / "out" / "checkpoint-2")
    values = logged(trainer, "eval_total_mlm_loss")
    assert sorted(values) == [1, 2, 3]
    assert values[2] == min(values.values()) == trainer.state.best_metric
    assert len([row for row in trainer.state.log_history if "eval_total_mlm_loss" in row]) == 3
    table = lossary.table(study, runs=["mine"], step=2)
    assert table.total("mine", "mlm_loss").value == values[2]
    for dataset in table.datasets:
        cell = table.cell("mine", dataset, "mlm_loss")
        assert logged(trainer, f"eval_{dataset}_mlm_loss")[2] == cell.value
        assert logged(trainer, f"eval_{dataset}_mlm_loss_low")[2] == cell.low


def test_early_stopping_stops_where_it_should(study: Path, model: Any, tokenizer: Any, tmp_path: Path) -> None:
    plan = [3.0, 0.01, 4.0, 5.0, 6.0, 7.0]
    arguments = {
        "metric_for_best_model": "eval_total_mlm_loss",
        "greater_is_better": False,
        "load_best_model_at_end": True,
    }
    stopping = transformers.EarlyStoppingCallback(early_stopping_patience=2)
    trainer = trainer_of(model, tokenizer, tmp_path / "out", plan, arguments=arguments, callbacks=[stopping])
    LossaryCallback(study, run="mine").attach(trainer)
    trainer.train()
    assert trainer.state.global_step == 4
    # The best model was loaded, and the Trainer is still at its last step: the numbers are the best one's.
    files = {path: path.read_bytes() for path in (study / "runs" / "mine" / "scores").glob("*.parquet")}
    values = logged(trainer, "eval_total_mlm_loss")
    assert trainer.evaluate()["eval_total_mlm_loss"] == values[2] == min(values.values()) != values[4]
    assert {path: path.read_bytes() for path in files} == files


def test_training_that_goes_on_repeats_no_score(study: Path, model: Any, tokenizer: Any, tmp_path: Path) -> None:
    trainer = trainer_of(model, tokenizer, tmp_path / "out", [0.5, 0.4])
    LossaryCallback(study, run="mine").attach(trainer)
    trainer.train()
    files = {path: path.stat().st_mtime_ns for path in (study / "runs" / "mine" / "scores").glob("*.parquet")}
    assert len(files) == 2
    again = trainer_of(model, tokenizer, tmp_path / "out", [0.3], arguments={"max_steps": 3})
    LossaryCallback(study, run="mine").attach(again)
    again.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-2"))
    # The same weights at the same step, evaluated by hand: what is there stands.
    again.evaluate()
    assert len(list((study / "runs" / "mine" / "scores").glob("*.parquet"))) == 3
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_given_as_a_callback_it_reaches_metrics_and_the_history(
    study: Path, model: Any, tokenizer: Any, tmp_path: Path
) -> None:
    callback = LossaryCallback(study, run="mine", tokenizer=tokenizer)
    trainer = trainer_of(model, tokenizer, tmp_path / "out", [0.5], callbacks=[callback])
    trainer.train()
    metrics = trainer.evaluate()
    assert "eval_total_mlm_loss_macro" in metrics
    state = json.loads((tmp_path / "out" / "checkpoint-1" / "trainer_state.json").read_text())
    assert [row["step"] for row in state["log_history"] if "eval_total_mlm_loss" in row] == [1]


def test_the_model_is_left_as_it_was(study: Path, model: Any, tokenizer: Any) -> None:
    model.train()
    before = torch.get_rng_state()
    LiveScores(study, run="mine", tokenizer=tokenizer).score(model, 1)
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_a_step_is_scored_once(study: Path, model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import lossary.api.evaluate as module

    live = LiveScores(study, run="mine", tokenizer=tokenizer)
    first = live.score(model, 1)

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("it was scored already")

    monkeypatch.setattr(module, "evaluate", never)
    assert live.score(model, 1) == first


def test_what_cannot_work_is_said_before_training(study: Path) -> None:
    with pytest.raises(UsageError, match="is a run of the study"):
        LossaryCallback(study, run=lossary.open_study(study).runs[0])
    with pytest.raises(lossary.LossaryError, match="study"):
        LossaryCallback(study / "nowhere", run="mine")


# Lightning's own: of torch's trees, of loaders without workers, of few batches.
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*:UserWarning:pytorch_lightning")
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_lightning_logs_at_validation_and_not_in_the_sanity_check(study: Path, model: Any, tokenizer: Any) -> None:
    pytorch_lightning = pytest.importorskip("pytorch_lightning")
    from lossary.integrations.lightning import LossaryCallback as Callback

    class Module(pytorch_lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.bert = model

        def training_step(self, batch: Any, _: int) -> Any:
            return self.bert(input_ids=batch, labels=batch).loss

        def validation_step(self, batch: Any, _: int) -> None:
            self.log("val_loss", self.bert(input_ids=batch, labels=batch).loss)

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    data = torch.utils.data.DataLoader(torch.randint(10, 20, (4, 8)), batch_size=2)
    callback = Callback(study, run="mine", tokenizer=tokenizer, model=lambda module: module.bert)
    trainer = pytorch_lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
        callbacks=[callback],
    )
    trainer.fit(Module(), data, data)
    steps = [int(path.stem) for path in (study / "runs" / "mine" / "scores").glob("*.parquet")]
    assert steps == [2]
    total = lossary.table(study, runs=["mine"]).total("mine", "mlm_loss").value
    assert float(trainer.callback_metrics["val_total_mlm_loss"]) == pytest.approx(total, rel=1e-6)


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_keras_sees_the_numbers_in_its_logs_and_stops_by_them(study: Path, tmp_path: Path, backend: str) -> None:
    script = Path(__file__).with_name("keras_training.py")
    out = tmp_path / "history.json"
    environment = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, str(script), str(study), str(out)], env=environment, check=True, timeout=300)
    history = json.loads(out.read_text())
    totals = history["val_total_mlm_loss"]
    # The second epoch is worse than the first, and patience is one.
    assert len(totals) == 2
    assert totals[0] < totals[1]
    steps = sorted(int(path.stem) for path in (study / "runs" / "mine" / "scores").glob("*.parquet"))
    assert steps == [2, 4]
    assert lossary.table(study, runs=["mine"]).total("mine", "mlm_loss").value == totals[1]
