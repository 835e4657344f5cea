"""Logs of lines: what is claimed for training and evaluation, where steps come from, and lines that are none."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from lossary.errors import SourceError
from lossary.results.importers.logrows import has_rows
from lossary.results.importers.maps import parse_maps
from lossary.results.importers.model import Imported
from lossary.results.importers.recognise import read_any


class Log(NamedTuple):
    """A text, and its curves by `dataset|metric|split|axis`: the steps and the values."""

    text: str
    expected: dict[str, tuple[list[int], list[float]]]


BAR = " {}%|██  | {}/40 [00:10<01:30, 10.0it/s]"
LOGS = {
    "llm.c": Log(
        "| weight decay | 1.0e-01 |\nval loss 11.0\n"
        "step    1/9 | loss 10.9 (+nanz)| norm 15.5 (+nanz)| lr 3.00e-06 | 80.2 ms | -100.0% bf16 MFU | 5100 tok/s\n"
        "step    2/9 | loss 10.5 (-0.30z)| norm 14.5 (+1.20z)| lr 6.00e-06 | 70.2 ms | 50.0% bf16 MFU | 5100 tok/s\n"
        "val loss 10.25\n",
        {"all|loss|eval|step": ([0, 2], [11.0, 10.25]), "all|loss|train|step": ([1, 2], [10.9, 10.5])},
    ),
    "llm.c, main.log": Log(
        "s:0 tel:11.0\ns:0 eval:0.25\ns:0 trl:10.9 lr:0.000003 norm:15.3\ns:9 tel:10.5\n",
        {"all|loss|eval|step": ([0, 9], [11.0, 10.5]), "all|loss|train|step": ([0], [10.9])},
    ),
    "nanochat": Log(
        "step 00100/2000 (5.00%) | loss: 6.125 | grad norm: 0.5 | lrm: 1.00 | dt: 50.00ms | tok/sec: 1,000\n"
        "Step 00250 | Validation bpb: 1.25\nStep 00250 | CORE metric: 0.125\n",
        {"all|loss|train|step": ([100], [6.125]), "all|bits_per_byte|eval|step": ([250], [1.25])},
    ),
    "torchtitan": Log(
        "[rank0]:[titan] 2026-01-02 10:00:00,000 - root - INFO - \x1b[31mstep:  1  \x1b[32mloss: 12.25  "
        "\x1b[34mgrad_norm:  1.5  \x1b[33mmemory:  9.29GiB(9.76%)\x1b[39m\n"
        "[rank0]:[titan] 2026-01-02 10:00:01,000 - root - INFO - validate step: 10  loss:  7.5  memory: 9GiB(9.0%)\n",
        {"all|loss|train|step": ([1], [12.25]), "all|loss|eval|step": ([10], [7.5])},
    ),
    "nothing says the split": Log(
        "step=100 loss=2.5\nstep=200 loss=2.25\n", {"all|loss|unknown|step": ([100, 200], [2.5, 2.25])}
    ),
    "a learning rate stands beside what is trained": Log(
        "step=100 loss=2.5 lr=1e-4\n", {"all|loss|train|step": ([100], [2.5])}
    ),
    "bars": Log(
        "step 100 | loss 2.5 | val_loss 2.75\nstep 200 | loss 2.0 | val_loss 2.25\n",
        {"all|loss|train|step": ([100, 200], [2.5, 2.0]), "all|loss|eval|step": ([100, 200], [2.75, 2.25])},
    ),
    "Keras 2, and an evaluation of a set that it does not name": Log(
        "Epoch 1/2\n100/100 [=====] - 3s 25ms/step - loss: 0.5 - accuracy: 0.75 - val_loss: 0.625 - val_accuracy: 0.5\n"
        "Epoch 2/2\n\r 50/100 [==>..] - ETA: 1s - loss: 0.9\r100/100 [=====] - 3s 25ms/step - loss: 0.25 - "
        "accuracy: 0.75 - val_loss: 0.5 - val_accuracy: 0.5\n10/10 [=====] - 0s 3ms/step - loss: 0.7\n",
        {
            "all|loss|train|epoch": ([1, 2], [0.5, 0.25]),
            "all|loss|eval|epoch": ([1, 2], [0.625, 0.5]),
            "all|accuracy|train|epoch": ([1, 2], [0.75, 0.75]),
            "all|accuracy|eval|epoch": ([1, 2], [0.5, 0.5]),
        },
    ),
    "Keras 3": Log(
        "Epoch 1/1\n\x1b[1m100/100\x1b[0m \x1b[32m━━━━\x1b[0m\x1b[37m\x1b[0m \x1b[1m3s\x1b[0m 25ms/step - loss: 0.5 - "
        "val_loss: 0.625\n",
        {"all|loss|train|epoch": ([1], [0.5]), "all|loss|eval|epoch": ([1], [0.625])},
    ),
    "the Trainer's dicts between bars, of evaluation too": Log(
        f"{BAR.format(25, 10, 40)}\n{{'loss': 2.5, 'grad_norm': 1.0, 'learning_rate': 4e-05, 'epoch': 0.5}}\n"
        f"{BAR.format(25, 10)}\r{BAR.format(50, 20)}\n{{'loss': 2.0, 'learning_rate': 3e-05, 'epoch': 1.0}}\n"
        f"{BAR.format(50, 20)}\n 50%|██  | 5/10 [00:00<00:00]\n"
        f"{{'eval_loss': 2.25, 'eval_wiki_loss': 1.5, 'eval_runtime': 1.0, 'epoch': 1.0}}\n{BAR.format(50, 20)}\n"
        "{'train_runtime': 20.0, 'train_loss': 2.25, 'epoch': 1.0}\n",
        {
            "all|loss|train|step": ([10, 20], [2.5, 2.0]),
            "all|loss|eval|step": ([20], [2.25]),
            "wiki|loss|eval|step": ([20], [1.5]),
        },
    ),
    "the Trainer's dicts alone, as text of texts": Log(
        "{'loss': '2.5', 'epoch': '1'}\n{'eval_loss': '2.25', 'epoch': '1'}\n{'loss': 'nan', 'epoch': '2'}\n",
        {"all|loss|train|epoch": ([1, 2], [2.5, float("nan")]), "all|loss|eval|epoch": ([1], [2.25])},
    ),
    "fractions of epochs are counted": Log(
        "{'loss': 2.5, 'epoch': 0.1}\n{'loss': 2.0, 'epoch': 0.2}\n{'eval_loss': 2.25, 'epoch': 0.2}\n",
        {"all|loss|train|epoch": ([0, 1], [2.5, 2.0]), "all|loss|eval|epoch": ([1], [2.25])},
    ),
    "accelerate": Log(
        "01/02/2026 10:05:00 - INFO - __main__ - epoch 0: perplexity: 20.0855 eval_loss: 3.0\n"
        "01/02/2026 10:10:00 - INFO - __main__ - epoch 1: perplexity: 12.1825 eval_loss: tensor(2.5, device='cpu')\n",
        {"all|loss|eval|epoch": ([0, 1], [3.0, 2.5])},
    ),
    "Lightning's bar counts once it is full": Log(
        "Epoch 0: 100%|██| 9/9 [00:10<00:00, 9.8it/s, v_num=0, train_loss=2.50, val_loss=2.75]\n"
        "Epoch 1:  50%|█ | 5/9 [00:05<00:05, 9.8it/s, v_num=0, train_loss=9.00, val_loss=2.75]\r"
        "Epoch 1: 100%|██| 9/9 [00:10<00:00, 9.8it/s, v_num=0, train_loss=2.00, val_loss=2.25]\n",
        {"all|loss|train|epoch": ([0, 1], [2.5, 2.0]), "all|loss|eval|epoch": ([0, 1], [2.75, 2.25])},
    ),
    "steps that start anew each epoch": Log(
        "Epoch [1/2], Step [5/10], Loss: 2.5\nEpoch [1/2], Step [10/10], Loss: 2.25\n"
        "Epoch [2/2], Step [5/10], Loss: 2.0\n",
        {"all|loss|unknown|step": ([5, 10, 15], [2.5, 2.25, 2.0])},
    ),
    "steps that start anew each epoch, and nobody says how many": Log(
        "epoch 1 step 5: loss 2.5\nepoch 2 step 5: loss 2.0\n", {"all|loss|unknown|step": ([0, 1], [2.5, 2.0])}
    ),
    "an evaluation at the end of each epoch": Log(
        "| epoch   1 |   200/ 400 batches | lr 20.00 | ms/batch 10.30 | loss  7.50 | ppl  1808.04\n"
        "| end of epoch   1 | time: 100.00s | valid loss  5.50 | valid ppl   244.69\n"
        "| epoch   2 |   200/ 400 batches | lr 20.00 | ms/batch 10.30 | loss  5.25 | ppl  190.57\n"
        "| End of training | test loss  4.90 | test ppl   134.29\n",
        {
            "all|loss|train|step": ([200, 600], [7.5, 5.25]),
            "all|loss|eval|epoch": ([1], [5.5]),
            "all|loss|test|step": ([600], [4.9]),
        },
    ),
    "litgpt": Log(
        "Epoch 1 | iter 100 step 25 | loss train: 2.500, val: 2.750 | iter time: 20.00 ms (step)\n"
        "Epoch 1 | iter 200 step 50 | loss train: 2.250, val: n/a | iter time: 20.00 ms (step)\n",
        {"all|loss|train|step": ([25, 50], [2.5, 2.25]), "all|loss|eval|step": ([25], [2.75])},
    ),
    "a set is named behind `on`": Log(
        "[10:00:00] step 9: eval on wiki: loss=2.5\n[10:00:01] step 9: eval on code: loss=1.5\n",
        {"wiki|loss|eval|step": ([9], [2.5]), "code|loss|eval|step": ([9], [1.5])},
    ),
    "JSON behind a time": Log(
        '2026-01-02 10:00:00 INFO {"step": 10, "loss": 2.5, "lr": 0.1}\nINFO {"step": 20, "eval_loss": 2.25}\n',
        {"all|loss|train|step": ([10], [2.5]), "all|loss|eval|step": ([20], [2.25])},
    ),
    "per cent": Log(
        "epoch 1: val_loss=2.5 val_acc=62.5%\nepoch 2: val_loss=2.0 val_acc=75.0%\n",
        {"all|loss|eval|epoch": ([1, 2], [2.5, 2.0]), "all|accuracy|eval|epoch": ([1, 2], [0.625, 0.75])},
    ),
}


def read(path: Path, text: str) -> Imported:
    path.write_text(text, encoding="utf-8")
    return read_any(path, parse_maps([]))


@pytest.mark.parametrize("log", LOGS.values(), ids=LOGS.keys())
def test_a_line_is_of_what_it_says(log: Log, tmp_path: Path) -> None:
    found = read(tmp_path / "train.log", log.text)
    curves = {f"{c.dataset}|{c.metric}|{c.split}|{c.axis}": (c.step.tolist(), c.value.tolist()) for c in found.curves}
    assert curves.keys() == log.expected.keys()
    assert len(curves) == len(found.curves)
    for name, (steps, values) in log.expected.items():
        assert curves[name][0] == steps
        np.testing.assert_allclose(curves[name][1], values)


def test_lines_of_other_words_for_one_step_hide_nothing(tmp_path: Path) -> None:
    found = read(tmp_path / "a.log", "step 9 saw wiki: loss 2.5\nstep 9 saw code: loss 1.5\n")
    assert sorted(float(curve.value[0]) for curve in found.curves) == [1.5, 2.5]
    assert all(mapped.conflict for mapped in found.mapping)
    assert "saw wiki" in str(found.notes)


def test_steps_of_a_bar_that_do_not_go_with_the_epochs_are_not_taken(tmp_path: Path) -> None:
    text = f"{BAR.format(2, 1)}\n{{'loss': 2.5, 'epoch': 1.0}}\n{BAR.format(75, 30)}\n{{'loss': 2.0, 'epoch': 2.0}}\n"
    found = read(tmp_path / "a.log", text + f"{BAR.format(75, 30)}\n")
    assert [(curve.axis, curve.step.tolist()) for curve in found.curves] == [("epoch", [1, 2])]


@pytest.mark.parametrize(
    "text",
    [
        "loss_weight=0.5 step_size=100\nlearning rate 0.1\n",
        "In step 3 we compute the loss of 2 models.\n",
        "step 100: saved\nthe loss is low\n",
        "Epoch 00001: val_loss improved from inf to 2.5, saving model to w.h5\n",
        "steps: 1000\nloss: cross_entropy\n",
        "step 0.5 loss 2.5\n",
    ],
)
def test_lines_that_only_speak_of_steps_and_losses_are_none(text: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"of no kind|no number in it"):
        read(tmp_path / "a.log", text)


@pytest.mark.parametrize(
    "line",
    [
        "step" + " " * 16_000 + "x loss",
        "[" * 16_000 + "loss",
        "loss " + "- 1/1 " * 2_600,
        "{'" * 5_000 + "':loss",
        "loss" + "12:00:00 " * 1_700,
        "Epoch 1/1\n" + "1/1 " * 4_000 + "loss",
        "a loss " * 2_300,
        "%|" * 8_000 + "loss",
    ],
    ids=range(8),
)
def test_a_hostile_line_comes_to_an_end(line: str) -> None:
    assert not has_rows("\n".join([line] * 20))
