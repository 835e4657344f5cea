"""Thirty files as trackers, programs and papers write them, each with what is right, written before any was read.

`right` has the last value of each `run|dataset|metric` (of files of one run, the run is "*"); `also` what may stand
there, too, and is right; None where nothing can be told and a refusal is right. The outcomes of all are counted by

    python tests/unit/importers/blind_files.py
"""

import math
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from lossary.errors import SourceError
from lossary.results.importers.maps import parse_maps
from lossary.results.importers.model import metric_name
from lossary.results.importers.recognise import read_any

__all__ = ["FILES", "BlindFile", "outcome"]


class BlindFile(NamedTuple):
    """A file's name and text, and its numbers."""

    name: str
    text: str
    right: dict[str, float] | None
    also: dict[str, float] = {}  # noqa: RUF012


FILES: dict[str, BlindFile] = {
    "OpenNMT-py": BlindFile(
        "train.log",
        "[2024-09-20 15:18:39,264 INFO] Step 500/1000; acc:  41.50; ppl: 54.60; xent: 4.00; lr: "
        "0.00010; 2214/2168 tok/s;    950 sec\n"
        "[2024-09-20 15:18:39,611 INFO] Loading valid dataset from data/news.valid.1.pt, number of examples: 7988\n"
        "[2024-09-20 15:18:47,173 INFO] Validation perplexity: 56.25\n"
        "[2024-09-20 15:18:47,173 INFO] Validation accuracy: 35.5\n"
        "[2024-09-20 19:26:42,257 INFO] Step 1000/1000; acc:  42.50; ppl: 33.12; xent: 3.50; lr: "
        "0.00005; 2372/1562 tok/s;  15833 sec\n"
        "[2024-09-20 19:26:58,682 INFO] Validation perplexity: 40.5\n"
        "[2024-09-20 19:26:58,683 INFO] Validation accuracy: 37.5\n",
        {"*|all|train_loss": 3.5, "*|all|train_accuracy": 0.425, "*|all|perplexity": 40.5, "*|all|accuracy": 0.375},
        {"*|all|train_perplexity": 33.12},
    ),
    "Sockeye": BlindFile(
        "log",
        "[INFO:sockeye.training] Epoch[0] Batch [2950]   Speed: 189.95 samples/sec 8499.62 tokens/sec "
        "1.59 updates/sec   perplexity=38.61\n"
        "[INFO:sockeye.training] Checkpoint [3]  Updates=3000 Epoch=0 Samples=315607 Time-cost=698.434 "
        "Updates/sec=1.432\n"
        "[INFO:sockeye.training] Checkpoint [3]  Train-perplexity=38.25\n"
        "[INFO:sockeye.training] Checkpoint [3]  Validation-perplexity=19.25\n"
        "[INFO:sockeye.training] Validation-perplexity improved to 19.25 (delta=10.92).\n"
        "[INFO:sockeye.training] Checkpoint [4]  Updates=4000 Epoch=1 Samples=415607 Time-cost=690.1 "
        "Updates/sec=1.44\n"
        "[INFO:sockeye.training] Checkpoint [4]  Train-perplexity=30.5\n"
        "[INFO:sockeye.training] Checkpoint [4]  Validation-perplexity=17.75\n",
        {"*|all|train_perplexity": 30.5, "*|all|perplexity": 17.75},
    ),
    "ESPnet": BlindFile(
        "train.log",
        "[PC] 2024-11-11 16:41:00,521 (trainer:486) INFO: 7epoch:train:7126-7500batch: iter_time=0.001, "
        "forward_time=0.005, loss=1.601, "
        "backward_time=0.005, optim_step_time=1.977e-04, lr_0=0.100, train_time=0.014\n"
        "[PC] 2024-11-11 16:41:04,070 (trainer:243) INFO: 7epoch results: [train] iter_time=0.001, "
        "forward_time=0.005, loss=1.625, "
        "backward_time=0.005, lr_0=0.100, train_time=0.014, time=1 minute and 44.19 seconds, total_count=52549, "
        "[valid] loss=1.875, time=3.12 seconds, total_count=1680, [att_plot] time=0.14 seconds, total_count=0\n"
        "[PC] 2024-11-11 16:43:04,070 (trainer:243) INFO: 8epoch results: [train] iter_time=0.001, "
        "forward_time=0.005, loss=1.5, "
        "backward_time=0.005, lr_0=0.100, train_time=0.014, time=1 minute and 44.19 seconds, total_count=60049, "
        "[valid] loss=1.75, time=3.12 seconds, total_count=1920, [att_plot] time=0.14 seconds, total_count=0\n",
        {"*|all|train_loss": 1.5, "*|all|loss": 1.75},
    ),
    "LLaMA-Factory": BlindFile(
        "trainer_log.jsonl",
        '{"current_steps": 3200, "total_steps": 3235, "loss": 4.5, "eval_loss": null, "predict_loss": '
        'null, "reward": null, '
        '"learning_rate": 1.4e-08, "epoch": 0.99, "percentage": 98.92, "elapsed_time": "5:13:22", '
        '"remaining_time": "0:03:25"}\n'
        '{"current_steps": 3200, "total_steps": 3235, "loss": null, "eval_loss": 4.25, "predict_loss": '
        'null, "reward": null, '
        '"learning_rate": null, "epoch": 0.99, "percentage": 98.92, "elapsed_time": "5:13:40", '
        '"remaining_time": "0:03:25"}\n'
        '{"current_steps": 3210, "total_steps": 3235, "loss": 4.375, "eval_loss": null, "predict_loss": '
        'null, "reward": null, '
        '"learning_rate": 7.3e-09, "epoch": 0.99, "percentage": 99.23, "elapsed_time": "5:14:24", '
        '"remaining_time": "0:02:26"}\n',
        {"*|all|train_loss": 4.375, "*|all|loss": 4.25},
    ),
    "a log that says its losses in sentences": BlindFile(
        "lxmert.log",
        "The training loss for Epoch 1 is 7.5\n"
        "The losses are Mask_LM: 1.75 Matched: 0.375 QA: 3.0\n"
        "The valid loss is 5.5\n"
        "The losses are Mask_LM: 1.5 Matched: 0.25 QA: 2.5\n"
        "The training loss for Epoch 2 is 4.75\n"
        "The losses are Mask_LM: 1.375 Matched: 0.25 QA: 2.25\n"
        "The valid loss is 5.0\n"
        "The losses are Mask_LM: 1.25 Matched: 0.125 QA: 2.0\n",
        {"*|all|train_loss": 4.75, "*|all|loss": 5.0},
        {"*|all|train_mlm_loss": 1.375, "*|all|mlm_loss": 1.25},
    ),
    "X-VLM": BlindFile(
        "log.txt",
        '{"train_loss_itc": "3.25", "train_loss_mlm": "2.5", "train_loss_bbox": "0.5", "train_lr": '
        '"0.00007", "epoch": 0}\n'
        '{"train_loss_itc": "2.75", "train_loss_mlm": "2.0", "train_loss_bbox": "0.375", "train_lr": '
        '"0.00009", "epoch": 1}\n',
        {"*|all|train_mlm_loss": 2.0},
        {"*|all|train_itc_loss": 2.75, "*|all|train_bbox_loss": 0.375},
    ),
    "MLX": BlindFile(
        "mlx.log",
        "Starting training..., iters: 600\n"
        "Iter 1: Val loss 3.375, Val took 12.341s\n"
        "Iter 100: Train loss 2.5, Learning Rate 1.000e-05, It/sec 1.472, Tokens/sec 467.707, Trained "
        "Tokens 31656, Peak mem 5.094 GB\n"
        "Iter 200: Val loss 2.25, Val took 12.1s\n"
        "Iter 200: Train loss 2.125, Learning Rate 1.000e-05, It/sec 1.512, Tokens/sec 469.541, Trained "
        "Tokens 63702, Peak mem 5.094 GB\n"
        "Iter 200: Saved adapter weights to adapters/adapters.safetensors and "
        "adapters/0000200_adapters.safetensors.\n"
        "Test loss 2.5, Test ppl 12.182.\n",
        {"*|all|train_loss": 2.125, "*|all|loss": 2.25, "*|all|test_loss": 2.5},
        {"*|all|test_perplexity": 12.182},
    ),
    "a survey's table with papers and codes": BlindFile(
        "language_modeling.md",
        "### Penn Treebank\n\nModel | Validation perplexity | Test perplexity | Number of params | "
        "Paper / Source | Code |\n"
        "---|---|---|---|---|---|\n"
        "RLSTM + dynamic eval (Melis, 2022) | 42.9 | 42.7 | 24M | [Circling](https://example.org/1) | "
        "[Official](https://example.org/2) |\n"
        "AWD-LSTM-DOC x5 (Takase et al., 2018) | 48.63 | 47.17 | 185M | [Direct Output](https://example.org/3) | |\n",
        {
            "RLSTM + dynamic eval (Melis, 2022)|all|perplexity": 42.9,
            "RLSTM + dynamic eval (Melis, 2022)|all|test_perplexity": 42.7,
            "AWD-LSTM-DOC x5 (Takase et al., 2018)|all|perplexity": 48.63,
            "AWD-LSTM-DOC x5 (Takase et al., 2018)|all|test_perplexity": 47.17,
        },
    ),
    "claims with a metric a row": BlindFile(
        "sota.md",
        "| # | Model | Metric | Claimed | Verified | Status |\n|---|---|---|---|---|---|\n"
        "| 1 | Decay RNN | Validation perplexity | 76.67 | — | Unverified |\n"
        "| 2 | GRU | Validation perplexity | 53.78 | — | Unverified |\n"
        "| 3 | GRU | Test perplexity | 52.5 | — | Unverified |\n",
        {"Decay RNN|all|perplexity": 76.67, "GRU|all|perplexity": 53.78, "GRU|all|test_perplexity": 52.5},
    ),
    "OpenNMT of Lua": BlindFile(
        "lua.log",
        "Epoch 1 ; Iteration 76000/77776 ; Learning rate 1.0000 ; Source tokens/s 1270 ; Perplexity 14.5\n"
        "Epoch 1 ; Iteration 77000/77776 ; Learning rate 1.0000 ; Source tokens/s 1270 ; Perplexity 14.25\n"
        "Validation perplexity: 7.875\n"
        "Saving checkpoint to 'model-qrt/model-diff-0.5-0.8-10m_epoch1_7.87.t7'...\n"
        "Epoch 2 ; Iteration 77000/77776 ; Learning rate 1.0000 ; Source tokens/s 1274 ; Perplexity 8.25\n"
        "Validation perplexity: 7.5\n",
        {"*|all|train_perplexity": 8.25, "*|all|perplexity": 7.5},
    ),
    "TensorFlow's old tutorial": BlindFile(
        "seq.log",
        "global step 6000 learning rate 0.1937 step-time 0.67 perplexity 13.5\n  eval: perplexity 13.25\n"
        "global step 6100 learning rate 0.1937 step-time 0.67 perplexity 13.375\n  eval: perplexity 13.125\n",
        {"*|all|train_perplexity": 13.375, "*|all|perplexity": 13.125},
    ),
    "torchtitan, of which each rank prints": BlindFile(
        "titan.log",
        "[rank0]:[titan] 2026-02-24 19:46:17,508 - root - INFO - step: 10  loss:  7.62500  grad_norm: "
        "26.6250  memory: 66.91GiB(37.51%)  tps: 10,050  tflops: 314.71  mfu: 13.99%\n"
        "[rank1]:[titan] 2026-02-24 19:46:17,508 - root - INFO - step: 10  loss:  7.62500  grad_norm: "
        "26.6250  memory: 66.91GiB(37.51%)  tps: 10,050  tflops: 314.69  mfu: 13.99%\n"
        "[rank0]:[titan] 2026-02-24 19:46:19,145 - root - INFO - step: 20  loss:  7.12500  grad_norm: "
        "46.5000  memory: 66.91GiB(37.51%)  tps: 10,007  tflops: 313.36  mfu: 13.93%\n"
        "[rank0]:[titan] 2026-02-24 19:46:21,145 - root - INFO - validate step: 20  loss:  7.2500  "
        "memory: 66.91GiB(37.51%)  tps: 20,007\n",
        {"*|all|train_loss": 7.125, "*|all|loss": 7.25},
    ),
    "Neptune's table of runs": BlindFile(
        "runs.csv",
        "sys/id,sys/name,sys/creation_time,sys/owner,params/lr,metrics/train/loss,metrics/eval/wiki/loss,metrics/eval/code/loss\n"
        "LM-12,base,2024-01-02T03:04:05,ann,0.001,2.25,2.5,1.5\nLM-13,large,2024-01-02T04:04:05,ann,0.001,2.0,2.25,1.25\n",
        {
            "base|all|train_loss": 2.25,
            "base|wiki|loss": 2.5,
            "base|code|loss": 1.5,
            "large|all|train_loss": 2.0,
            "large|wiki|loss": 2.25,
            "large|code|loss": 1.25,
        },
    ),
    "TensorBoard.dev's data frame": BlindFile(
        "scalars.csv",
        "run,tag,step,value,wall_time\nbase/train,epoch_loss,0,3.5,1700000000.1\nbase/train,epoch_loss,1,2.5,1700000060.1\n"
        "base/validation,epoch_loss,0,3.25,1700000010.1\nbase/validation,epoch_loss,1,2.75,1700000070.1\n"
        "large/train,epoch_loss,0,3.0,1700000000.1\nlarge/train,epoch_loss,1,2.25,1700000060.1\n",
        {"base|all|train_loss": 2.5, "base|all|loss": 2.75, "large|all|train_loss": 2.25},
        {"base|all|loss": 2.75},
    ),
    "Sacred's metrics.json": BlindFile(
        "metrics.json",
        '{"training.loss": {"steps": [100, 200], "timestamps": ["2024-01-02T03:04:05", '
        '"2024-01-02T03:05:05"], "values": [3.5, 2.5]}, '
        '"validation.loss": {"steps": [100, 200], "timestamps": ["2024-01-02T03:04:06", '
        '"2024-01-02T03:05:06"], "values": [3.25, 2.75]}}',
        {"*|all|train_loss": 2.5, "*|all|loss": 2.75},
    ),
    "LaTeX with domains, splits above and a mean below": BlindFile(
        "paper.tex",
        "\\begin{table}\n\\caption{Perplexity by domain. Lower is better.}\n\\begin{tabular}{lcccc}\n\\toprule\n"
        "& \\multicolumn{2}{c}{Dense} & \\multicolumn{2}{c}{MoE} \\\\\n\\cmidrule(lr){2-3}\\cmidrule(lr){4-5}\n"
        "Domain & Val & Test & Val & Test \\\\\n\\midrule\nNews & 12.5 & 12.75 & 11.5 & 11.75 \\\\\n"
        "Legal & 6.5 & 6.75 & \\textbf{5.5} & \\textbf{5.75} \\\\\nCode & 3.5 & 3.75 & 3.25 & 3.5 \\\\\n\\midrule\n"
        "Avg. & 7.5 & 7.75 & 6.75 & 7.0 \\\\\n\\bottomrule\n\\end{tabular}\n\\end{table}\n",
        {
            f"{run}|{name}|{metric}": value
            for run, metric, column in (
                ("Dense", "perplexity", (12.5, 6.5, 3.5, 7.5)),
                ("Dense", "test_perplexity", (12.75, 6.75, 3.75, 7.75)),
                ("MoE", "perplexity", (11.5, 5.5, 3.25, 6.75)),
                ("MoE", "test_perplexity", (11.75, 5.75, 3.5, 7.0)),
            )
            for name, value in zip(("News", "Legal", "Code", "total"), column, strict=True)
        },
    ),
    "a table of sizes with losses of two corpora in brackets": BlindFile(
        "README.md",
        "| Model | Params | Tokens | Loss (C4) | Loss (Pile) |\n|---|---|---|---|---|\n| tiny | 30M | "
        "1B | 3.75 | 3.5 |\n"
        "| small | 124M | 3B | 3.25 | 3.0 |\n",
        {"tiny|C4|loss": 3.75, "tiny|Pile|loss": 3.5, "small|C4|loss": 3.25, "small|Pile|loss": 3.0},
    ),
    "DVC's metrics diff": BlindFile(
        "diff.md",
        "| Path         | Metric     | HEAD   | workspace   | Change   "
        "|\n|--------------|------------|--------|-------------|----------|\n"
        "| metrics.json | train.loss | 2.25   | 2.125       | -0.125   |\n| metrics.json | val.loss   | "
        "2.5    | 2.375       | -0.125   |\n",
        {
            "HEAD|all|train_loss": 2.25,
            "HEAD|all|loss": 2.5,
            "workspace|all|train_loss": 2.125,
            "workspace|all|loss": 2.375,
        },
    ),
    "polars": BlindFile(
        "out.txt",
        "shape: (3, 4)\n┌─────────┬───────┬──────────┬──────────┐\n│ dataset ┆ model ┆ val_loss ┆ n_tokens │\n"
        "│ ---     ┆ ---   ┆ ---      ┆ ---      │\n│ str     ┆ str   ┆ f64      ┆ i64      │\n"
        "╞═════════╪═══════╪══════════╪══════════╡\n│ wiki    ┆ base  ┆ 2.5      ┆ 1000     │\n"
        "│ code    ┆ base  ┆ 1.5      ┆ 2000     │\n│ wiki    ┆ large ┆ 2.25     ┆ 1000     │\n"
        "└─────────┴───────┴──────────┴──────────┘\n",
        {"base|wiki|loss": 2.5, "base|code|loss": 1.5, "large|wiki|loss": 2.25},
    ),
    "pandas with an index of two levels": BlindFile(
        "frame.txt",
        "               val_loss    ppl\nrun   dataset                 \nbase  wiki        2.500  "
        "12.18\n      code        1.500   4.48\n"
        "large wiki        2.250   9.49\n      code        1.250   3.49\n",
        {"base|wiki|loss": 2.5, "base|code|loss": 1.5, "large|wiki|loss": 2.25, "large|code|loss": 1.25},
        {
            "base|wiki|perplexity": 12.18,
            "base|code|perplexity": 4.48,
            "large|wiki|perplexity": 9.49,
            "large|code|perplexity": 3.49,
        },
    ),
    "a model card's training results": BlindFile(
        "README.md",
        "---\nlicense: mit\nmetrics:\n- accuracy\n---\n\n# bert-tiny-mlm\n\nIt achieves the following "
        "results on the evaluation set:\n"
        "- Loss: 2.75\n- Accuracy: 0.5\n\n### Training results\n\n| Training Loss | Epoch | Step | "
        "Validation Loss | Accuracy |\n"
        "|:-------------:|:-----:|:----:|:---------------:|:--------:|\n| No log        | 1.0   | 90   "
        "| 3.125           | 0.4375   |\n"
        "| 3.25          | 2.0   | 180  | 2.75            | 0.5      |\n\n### Framework versions\n\n- "
        "Transformers 4.44.0\n- Pytorch 2.4.0\n",
        {"*|all|train_loss": 3.25, "*|all|loss": 2.75, "*|all|accuracy": 0.5},
    ),
    "a summary with an average of the datasets": BlindFile(
        "wandb-summary.json",
        '{"_step": 5000, "_runtime": 12.5, "train/loss": 2.5, "eval/c4_en/loss": 2.75, '
        '"eval/dolma_books/loss": 3.25, '
        '"eval/macro_loss": 3.0, "eval/c4_en/bpb": 0.875, "throughput/tokens": 1000000}',
        {"*|all|train_loss": 2.5, "*|c4_en|loss": 2.75, "*|dolma_books|loss": 3.25, "*|c4_en|bits_per_byte": 0.875},
        {"*|total|loss": 3.0, "*|all|loss": 3.0},
    ),
    "Julia's logger": BlindFile(
        "julia.log",
        "┌ Info: Epoch 1\n│   train_loss = 3.5\n└   val_loss = 3.25\n┌ Info: Epoch 2\n│   train_loss = "
        "2.5\n└   val_loss = 2.75\n",
        {"*|all|train_loss": 2.5, "*|all|loss": 2.75},
    ),
    "a German sheet with a title": BlindFile(
        "ergebnisse.csv",
        "Validierungsverlust nach Datensatz;;\nDatensatz;Modell A;Modell "
        "B\nWiki;2,50;2,25\nRecht;1,50;1,25\nMittelwert;2,00;1,75\n",
        {
            "Modell A|Wiki|loss": 2.5,
            "Modell B|Wiki|loss": 2.25,
            "Modell A|Recht|loss": 1.5,
            "Modell B|Recht|loss": 1.25,
            "Modell A|total|loss": 2.0,
            "Modell B|total|loss": 1.75,
        },
    ),
    "an evaluation as a list of results by domain": BlindFile(
        "eval.json",
        '[{"model": "base", "source": "c4", "domain": "news", "n_tokens": 1000, "ppl": 12.5},'
        ' {"model": "base", "source": "c4", "domain": "blogs", "n_tokens": 3000, "ppl": 14.5},'
        ' {"model": "base", "source": "pile", "domain": "law", "n_tokens": 2000, "ppl": 6.5}]',
        {"base|news|perplexity": 12.5, "base|blogs|perplexity": 14.5, "base|law|perplexity": 6.5},
    ),
    "Keras without bars": BlindFile(
        "fit.log",
        "Epoch 1/2\n1000/1000 - 45s - loss: 3.5000 - masked_accuracy: 0.4375 - val_loss: 3.2500 - "
        "val_masked_accuracy: 0.4688 - 45s/epoch - 45ms/step\n"
        "Epoch 2/2\n1000/1000 - 44s - loss: 2.7500 - masked_accuracy: 0.5000 - val_loss: 2.6250 - "
        "val_masked_accuracy: 0.5313 - 44s/epoch - 44ms/step\n",
        {"*|all|train_loss": 2.75, "*|all|train_accuracy": 0.5, "*|all|loss": 2.625, "*|all|accuracy": 0.5313},
    ),
    "SRILM": BlindFile(
        "srilm.txt",
        "file wiki.txt: 1000 sentences, 20000 words, 12 OOVs\n0 zeroprobs, logprob= -45678.5 ppl= 123.5 "
        "ppl1= 150.25\n"
        "file code.txt: 500 sentences, 9000 words, 3 OOVs\n0 zeroprobs, logprob= -15678.5 ppl= 42.5 ppl1= 50.25\n",
        {"*|wiki|perplexity": 123.5, "*|code|perplexity": 42.5},
    ),
    "a paper's page with bold and cells over rows": BlindFile(
        "ar5iv.html",
        "<figure><figcaption>Table 2: Bits per byte on held-out data.</figcaption><table><thead><tr><th "
        "rowspan='2'>Model</th>"
        "<th colspan='3'>Domain</th></tr><tr><th>Books</th><th>GitHub</th><th>Avg.</th></tr></thead><tbody>"
        "<tr><td>Dense-1B</td><td>0.875</td><td>0.625</td><td>0.750</td></tr>"
        "<tr><td>MoE-1B</td><td><b>0.850</b></td><td><b>0.600</b></td><td><b>0.725</b></td></tr></tbody></table></figure>",
        {
            "Dense-1B|Books|bits_per_byte": 0.875,
            "Dense-1B|GitHub|bits_per_byte": 0.625,
            "Dense-1B|total|bits_per_byte": 0.75,
            "MoE-1B|Books|bits_per_byte": 0.85,
            "MoE-1B|GitHub|bits_per_byte": 0.6,
            "MoE-1B|total|bits_per_byte": 0.725,
        },
    ),
    "a list of points": BlindFile(
        "notes.md",
        "# Validation loss after 10k steps\n\n- wiki: 2.5\n- books: 3.25\n- code: 1.5\n",
        {"*|wiki|loss": 2.5, "*|books|loss": 3.25, "*|code|loss": 1.5},
    ),
    "runs beside one another by step": BlindFile(
        "compare.txt",
        "val loss\n\nstep    baseline    ours\n----    --------    ----\n1000    3.250       "
        "3.125\n2000    2.750       2.625\n",
        {"baseline|all|loss": 2.75, "ours|all|loss": 2.625},
    ),
}


def outcome(file: BlindFile, folder: Path) -> str:
    """`right`, `nearly` (what is read is right, and what is not is told), `silently dropped`, `silently wrong`,
    `rightly refused` or `needlessly refused`."""
    path = folder / file.name
    path.write_text(file.text, encoding="utf-8")
    try:
        found = read_any(path, parse_maps([]))
    except SourceError:
        return "rightly refused" if file.right is None else "needlessly refused"
    of_one_run = any(place.startswith("*") for place in file.right or {})
    read = [(n.run, n.dataset or "total", n.metric, n.value) for n in found.numbers]
    read += [(c.run, c.dataset, metric_name(c.metric, c.split), float(c.value[-1])) for c in found.curves]
    values = {f"{'*' if of_one_run else run}|{dataset}|{metric}": value for run, dataset, metric, value in read}
    known = file.also | (file.right or {})
    if any(abs(value - known.get(place, math.inf)) > 1e-6 * abs(value) for place, value in values.items()):
        return "silently wrong"
    if file.right is not None and file.right.keys() <= values.keys():
        return "right"
    is_told = found.unread.total or found.notes or any(mapped.reason for mapped in found.mapping)
    return "nearly" if is_told else "silently dropped"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for outcome_of_all, count in Counter(outcome(file, Path(name)) for file in FILES.values()).items():
            print(f"{count:3d} {outcome_of_all}")
