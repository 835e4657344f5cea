"""Names of columns and series: a grammar of positions, in English and Russian.

A name is words between separators. From its ends inwards the words that speak of split, objective, metric and statistic
are taken off; what is left in the middle is the dataset of a series, or the run of a column, as it is written.

read_name("eval/wiki/mlm_loss")   → eval, mlm, loss, rest "wiki"
read_name("torch_MLM_val")        → eval, mlm, rest "torch"; no metric is named
read_name("eval_test_set_loss")   → eval, loss, rest "test_set": a name has one split
"""

import re
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

from lossary.results.importers.languages import english_split, translated
from lossary.results.importers.model import Role, Split

__all__ = ["Name", "Quantity", "of_data", "quantities_in", "read_name", "role", "row_scale", "split_word"]

Quantity = Literal["loss", "accuracy", "perplexity", "bits_per_byte"]

_ROLES: tuple[tuple[Role, re.Pattern[str]], ...] = (
    (
        "validation_share",
        re.compile(r"(share|weight|%|доля|вес).*(val|eval|вал)|^val(idation)?\s*%|(val|вал).*(share|%)"),
    ),
    (
        "train_share",
        re.compile(r"(share|weight|%|доля|вес).*(train|тре[йи]н|обуч)|^train\s*%|(train|тре[йи]н).*(share|%)"),
    ),
    ("train_rows", re.compile(r"\b(rows|examples|documents|строк|пример\w*|documentos|zeilen)\b")),
    (
        "dataset",
        re.compile(r"^(eval(uation)?[\s_]*|val(id)?(idation)?[\s_]*|test[\s_]*)?"
                   r"(data[\s_]*sets?|датасет\w*|набор\w*|"
                   r"datens(?:atz|ätze)|jeux? de données|conjuntos? de datos|корпуса?|数据集|語料|语料库?|资料集|"
                   r"데이터셋|データセット|"
                   r"korpus|korpora|quellen?|"
                   r"corpus|corpora|sources?|domains?|subsets?|tasks?|benchmarks?|languages?|genres?|topics?)"
                   r"([\s_]*name)?$"),
    ),
    (
        "run",
        re.compile(r"^(models?|runs?|exp(eriment)?s?|systems?|methods?|configs?|configuration|variants?|settings?|"
                   r"architectures?|arch|checkpoints?|commits?|revisions?|trials?|jobs?|teams?|submissions?|entr(?:y|ies)|participants?|approach(?:es)?|algorithms?|"
                   r"techniques?|optimi[sz]ers?|recipes?|tokenizers?|strateg(?:y|ies)|ablations?|changes?|frameworks?|backends?|модел[ьи]|запуски?|эксперименты?|прогоны?|"
                   r"modelle?|modell|modèles?|modelos?|modell[oi]|模型(名称)?|モデル名?|모델)"
                   r"([\s_.]*(name|id|hash|size))?$"),
    ),
    ("split", re.compile(r"^(splits?|phase|stage|mode|partition)$")),
    ("epoch", re.compile(r"^(epochs?|эпох[аи]|ep|epochen?|époques?|épocas?|epoca|epok[ai]|"
                      r"(训练)?轮[次数]|訓練輪數|迭代轮数|エポック数?|에포크)$")),
    (
        "step",
        re.compile(r"^((train(er)?/)?_?((global|cur|current|opt(imizer)?|train(ing)?)[\s_]*)?(steps?|iter(ation)?s?)|(num[\s_]*)?updates?|train_iter\w*|шаги?|итераци[яи]|(trainings)?schritte?|étapes?|itérations?|pasos?|passos?|passi|krok[i]?|(训练)?步[数骤]?|迭代(次数|步数)?|ステップ数?|스텝|"
                   r"training[\s_]*steps?|batch(es)?)$"),
    ),
    (
        "tokens",
        re.compile(r"^((#|num(ber of)?|n|total|consumed|seen|train(ing|ed)?|cumulative)[\s_]*)*tokens?"
                   r"([\s_]*(seen|consumed|processed|trained))?(\s*[(\[]?\s*([kmb]|bn|bln|mln|billions?|millions?)[)\]]?)?$"),
    ),
    ("metric", re.compile(r"^(metrics?([\s_]*names?)?|measures?|метрика|tag|quantity)$")),
    ("value", re.compile(r"^((metric[\s_]*)?values?|scores?|results?|значение)$")),
    ("ignore", re.compile(r"^(#|№|no\.?|rank|index|idx|unnamed: \d+|n)$")),
)  # fmt: skip
_SCALES = (
    (re.compile(r"\b(bln|bn|b|billions?|млрд)\b"), 10**9),
    (re.compile(r"\b(mln|mio|m|millions?|млн)\b"), 10**6),
    (re.compile(r"\b(k|thousands?|тыс)\b"), 10**3),
)
_SPLITS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "трейн", "обучение"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "eval", "evaluation", "dev", "вал", "heldout"), "eval"),
    **dict.fromkeys(("test", "testing", "тест"), "test"),
}
# Longest first: of two phrases that start alike the longer one is meant.
_OBJECTIVES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("masked", "language", "modeling"), "mlm"),
    (("masked", "language", "model"), "mlm"),
    (("masked", "lm"), "mlm"),
    (("next", "sentence", "prediction"), "nsp"),
    (("next", "sentence"), "nsp"),
    (("sentence", "order", "prediction"), "sop"),
    (("sentence", "order"), "sop"),
    (("causal", "lm"), "clm"),
    (("maskedlm",), "mlm"),
    (("mlm",), "mlm"),
    (("nsp",), "nsp"),
    (("sop",), "sop"),
    (("clm",), "clm"),
    (("lm",), "lm"),
)
_QUANTITIES: tuple[tuple[tuple[str, ...], Quantity], ...] = (
    (("bits", "per", "byte"), "bits_per_byte"),
    (("language", "cross", "entropy"), "loss"),
    (("language", "perplexity"), "perplexity"),
    (("log", "perplexity"), "loss"),
    (("log", "ppl"), "loss"),
    (("sparse", "categorical", "crossentropy"), "loss"),
    (("categorical", "crossentropy"), "loss"),
    (("sparse", "categorical", "accuracy"), "accuracy"),
    (("categorical", "accuracy"), "accuracy"),
    (("masked", "accuracy"), "accuracy"),
    (("cross", "entropy", "loss"), "loss"),
    (("cross", "entropy"), "loss"),
    (("ce", "mean", "words"), "loss"),
    (("bpb",), "bits_per_byte"),
    (("loss",), "loss"),
    (("losses",), "loss"),
    (("nll",), "loss"),
    (("xent",), "loss"),
    (("ce",), "loss"),
    (("crossentropy",), "loss"),
    (("лосс",), "loss"),
    (("in", "nats"), "loss"),
    (("nats",), "loss"),
    (("nat",), "loss"),
    (("acc",), "accuracy"),
    (("accuracy",), "accuracy"),
    (("точность",), "accuracy"),
    (("ppl",), "perplexity"),
    (("perplexity",), "perplexity"),
    (("perplexities",), "perplexity"),
    (("accuracies",), "accuracy"),
    (("перплексия",), "perplexity"),
)
_QUANTITY_WORDS = {phrase[-1] for phrase, _ in _QUANTITIES}
_STATISTICS = {
    **dict.fromkeys(("mean", "avg", "average", "среднее"), "mean"),
    **dict.fromkeys(("std", "stdev", "stddev", "sd", "deviation", "var", "variance", "sem", "stderr", "lower", "upper"),
                    "deviation"),
    **dict.fromkeys(("min", "lowest"), "min"),
    **dict.fromkeys(("max", "highest", "worst"), "max"),
    **dict.fromkeys(("best",), "best"),
    **dict.fromkeys(("ema", "smooth", "smoothed", "smoothing", "running"), "smoothed"),
    **dict.fromkeys(("median",), "median"),
}  # fmt: skip
# Words that say nothing of which dataset or run: namespaces of trackers, and what all losses are.
_LEADING_NOISE = {
    "metric",
    "metrics",
    "scalars",
    "scalar",
    "reduced",
    "final",
    "last",
    "total",
    "overall",
    "losses",
    "current",
    "cur",
    "objective",
}
_TRAILING_NOISE = {"value", "total", "final", "last", "overall", "per", "token", "metric", "score"}
# Losses that are no language model's of a dataset: what they are called stays in the metric.
_COMPONENTS = {
    "aux", "auxiliary", "balance", "balancing", "load", "z", "kl", "kld", "kd", "distill", "distillation", "reg",
    "regularization", "l1", "l2", "mse", "mae", "bce", "dice", "contrastive", "hinge", "triplet", "focal", "huber",
    "cross", "ent",
    "adv", "adversarial", "gan", "generator", "discriminator", "router", "moe", "commitment", "reconstruction", "recon",
    "vq", "perceptual", "disc", "gen",
    "bbox", "box", "ctc", "policy", "critic", "actor", "reward", "dpo", "mtp", "itc", "itm", "rtd",
    "cls", "classification", "value", "classifier", "ner", "seg", "g", "d",
    # Reinforcement learning's.
    "vf", "qf", "td", "pg", "entropy", "surrogate", "approx", "divergence", "function", "gradient",
}  # fmt: skip
# What a perplexity is of.
_UNITS = {"word", "byte", "char", "character"}
# Words that only speak about a loss: `loss-scale`, `eval_loss_runtime`, `lm loss vs samples`.
_ABOUT = {
    "scale", "scaler", "scaling", "rate", "lr", "norm", "grad", "gradient", "runtime", "time", "seconds", "vs",
    "weight", "weights", "ratio", "delta", "diff", "difference", "improvement", "coef", "coefficient", "count",
    "num", "samples", "second", "target", "threshold", "gap", "change", "history", "path", "name", "function",
    "fn", "type", "patience",
}  # fmt: skip
# In front of a metric they make it a difference of two: `Δ loss`.
_DIFFERENCES = {"delta", "diff", "difference", "improvement", "reduction", "gain", "relative"}
_WORD = re.compile(r"(?:[^\W_]|∆)+(?:[%][^\W_]*)?")
_HUMP = re.compile(r"(?<=[a-zа-я])(?=[A-ZА-Я])|(?<=[A-ZА-Я])(?=[A-ZА-Я][a-zа-я])")


# As Aim and Prometheus write what a metric is of: `loss context.subset="val"`, `loss{dataset="wiki"}`.
_CONTEXT = re.compile(
    r"[\s,{]*(?:context\.)?\b(?:subset|split|phase|stage|mode|dataset|domain|corpus)\s*=\s*[\"']?([\w.\-]+)[\"']?\s*\}?"
)


class Name(NamedTuple):
    """A name taken apart; `rest` is what stays in the middle, as written, `about` a word that makes it no loss."""

    split: Split | None
    objective: str | None
    quantity: Quantity | None
    statistic: str
    component: str
    rest: str
    about: str | None = None
    # The rest if the word of the split belonged to it: `dev_to` of dev_to_loss.
    rest_with_split: str = ""
    is_in_bits: bool = False


class _Words:
    """Words of a name with their places, taken off from either end."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.words: list[str] = []
        self.spans: list[tuple[int, int]] = []
        for match in _WORD.finditer(text):
            start = match.start()
            for part in _HUMP.split(match[0]):
                self.words.append(part.lower())
                self.spans.append((start, start + len(part)))
                start += len(part)
        self.low, self.high = 0, len(self.words)

    def starts(self, phrase: tuple[str, ...]) -> bool:
        return self.high - self.low >= len(phrase) and tuple(self.words[self.low : self.low + len(phrase)]) == phrase

    def ends(self, phrase: tuple[str, ...]) -> bool:
        return self.high - self.low >= len(phrase) and tuple(self.words[self.high - len(phrase) : self.high]) == phrase

    def belongs_to_what_follows(self, count: int) -> bool:
        """Whether the first words are the start of a dataset's name: `loss_landscape` of `loss_landscape_loss`."""
        after = self.low + count
        joined = after < self.high and self.text[self.spans[after - 1][1] : self.spans[after][0]] == "_"
        return joined and self.words[-1] in _QUANTITY_WORDS

    def between(self, low: int, high: int) -> str:
        if low >= high:
            return ""
        return self.text[self.spans[low][0] : self.spans[high - 1][1]]


# Longer texts are no word that people have for a split.
_LONGEST_WORD = 64


@lru_cache(maxsize=1 << 14)
def split_word(word: str) -> Split | None:
    """The split that a single word names: `validation`, `dev set`, `Train`."""
    if len(word) > _LONGEST_WORD:
        return None
    plain = re.sub(r"[\s_-]*(set|split|data)$", "", word.strip().lower())
    return _SPLITS.get(plain) or _SPLITS.get(english_split(plain) or "")


# Tables of thousands of columns ask for each name again and again.
@lru_cache(maxsize=1 << 15)
def read_name(text: str, *, with_split: bool = True) -> Name:
    """Takes a name apart; `with_split` False where the split is known, and a word for one belongs to a dataset."""
    words = _Words(translated(_CONTEXT.sub(r" \1 ", text) if "=" in text else text))
    first = next((at for at, word in enumerate(words.words) if word in _QUANTITY_WORDS), len(words.words))
    # `losses/policy_gradient_loss` is a loss.
    parts = {word for word, after in pairwise(words.words) if word in _COMPONENTS and after == "loss"}
    about = next((word for word in words.words[first:] if word in _ABOUT - parts), None)
    if about is None and first < len(words.words) and (words.words[0] in _DIFFERENCES or words.words[0][0] in "δ∆"):
        about = words.words[0]
    found: dict[str, str] = {} if with_split else {"split": ""}
    split_at: tuple[int, int] | None = None
    moved: str | bool = True
    while moved and words.low < words.high:
        moved = _take(words, found, leading=True)
        if moved == "split":
            split_at = (words.low - 1, words.high)
        if not moved:
            moved = _take(words, found, leading=False)
    # `loss on wiki`
    rest = re.sub(r"^(?:on|of|for) (?:the )?(?=\S)", "", words.between(words.low, words.high))
    longer = rest
    if split_at is not None and rest and split_at[0] == words.low - 1:
        longer = words.between(split_at[0], words.high)
    if about is None and "quantity" in found and re.match(r"per[\s_-]", rest):
        # `loss_per_nontarget_token`; `per token` is what a loss is.
        about = "per"
    component, rest = _component(words, rest, found)
    return Name(
        split=found.get("split") or None,  # type: ignore[arg-type]
        objective=found.get("objective"),
        quantity=found.get("quantity"),  # type: ignore[arg-type]
        statistic=found.get("statistic", ""),
        component=component,
        rest=rest,
        about=about,
        rest_with_split=longer if not component else rest,
        is_in_bits="unit" in found and found.get("quantity") == "loss",
    )


def _component(words: _Words, rest: str, found: dict[str, str]) -> tuple[str, str]:
    """Words before the loss that name another kind of loss: `aux`, `load_balancing`."""
    if found.get("quantity") == "perplexity" and words.words[words.high - 1] in _UNITS and rest:
        return words.words[words.high - 1], words.between(words.low, words.high - 1)
    if found.get("quantity") not in ("loss", "accuracy") or not rest:
        return "", rest
    high = words.high
    while high > words.low and words.words[high - 1] in _COMPONENTS:
        high -= 1
    if high == words.high or (high > words.low and words.words[high:] and words.words[high] in ("load", "g", "d")):
        return "", rest
    return "_".join(words.words[high : words.high]), words.between(words.low, high)


def _take(words: _Words, found: dict[str, str], *, leading: bool) -> str | Literal[False]:
    """Takes one known word or phrase off an end; what it was, or False."""
    matches = words.starts if leading else words.ends

    def drop(count: int) -> None:
        if leading:
            words.low += count
        else:
            words.high -= count

    at = words.low if leading else words.high - 1
    word = words.words[at]
    # `value_loss` is of a value function; `loss_value` is a loss.
    is_of_values = word == "value" and words.words[at + 1 : at + 2] in (["loss"], ["losses"])
    before = words.words[: words.high - 1]
    # `loss (bits)`; `loss 4 bits` is of a quantised model.
    if not leading and word in ("bits", "bit") and _QUANTITY_WORDS & set(before) and not before[-1].isdigit():
        found["unit"] = "bits"
        drop(2 if words.ends(("in", word)) else 1)
        return "unit"
    for phrase, quantity in _QUANTITIES:
        if matches(phrase) and not (leading and words.belongs_to_what_follows(len(phrase))):
            # `lm loss validation ppl` is a perplexity; `loss/mlm_loss` says it twice.
            if found.get("quantity", quantity) in ("loss", quantity):
                found["quantity"] = quantity
            drop(len(phrase))
            return "quantity"
    for phrase, objective in _OBJECTIVES:
        if matches(phrase) and found.get("objective", objective) in (objective, "lm"):
            found["objective"] = objective
            drop(len(phrase))
            return "objective"
    says_it_again = not leading and _SPLITS.get(word) == found.get("split", "") and "quantity" in found
    if says_it_again and words.high - words.low > 1:
        # `Train/Samples/train_loss`
        drop(1)
        return "noise"
    if word in _SPLITS and "split" not in found:
        found["split"] = _SPLITS[word]
        drop(1)
        if leading and words.low < words.high and words.words[words.low] == "set":
            words.low += 1
        return "split"
    if not leading and word == "set" and words.high - words.low > 1 and words.words[words.high - 2] in _SPLITS:
        if "split" not in found and "quantity" in found:
            words.high -= 1
            return "noise"
        return False
    if word in _STATISTICS and not (leading and word in ("running", "average", "ci", "var", "sd", "lower", "upper")):
        found["statistic"] = _STATISTICS[word]
        drop(1)
        return "statistic"
    if is_of_values:
        return False
    if word in (_LEADING_NOISE if leading else _TRAILING_NOISE) and words.high - words.low > 1:
        drop(1)
        return "noise"
    if word in ("total", "overall", "final", "last", "value", "token", "per") and words.high - words.low == 1 and found:
        drop(1)
        return "noise"
    return False


def quantities_in(text: str) -> set[Quantity]:
    """What a title says was measured, wherever it stands in it: `Bits per byte on the Pile`."""
    words = _Words(text)
    found: set[Quantity] = set()
    while words.low < words.high:
        match = next(((phrase, quantity) for phrase, quantity in _QUANTITIES if words.starts(phrase)), None)
        if match is not None:
            found.add(match[1])
        words.low += len(match[0]) if match is not None else 1
    return found


def role(header: str) -> Role | None:
    """What a column says of datasets, runs or points, if it does."""
    text = header.strip().strip("*_`").strip().lower()
    if not text:
        return None
    return next((name for name, pattern in _ROLES if pattern.search(text)), None)


_DATA = re.compile(
    r"(open)?web|wiki|book|c4|pile|ptb|news|code|github|arxiv|pubmed|stack|lambada|reddit|twitter|law|legal|medical|forum"
    r"|dialog|math|gutenberg|europarl|oscar|cc-?100|common.?crawl|redpajama|dclm|fineweb|text8|enwik|patents|poetry",
    re.IGNORECASE,
)
_MODEL = re.compile(
    r"\b(base(line)?|large|small|tiny|mini|medium|x*l|xlarge|ours|v\d+|[\d.]+[mb]|torch|tf|jax|keras|fp\d+|bf16|int\d)\b"
    r"|bert|gpt|llama|mamba|pythia|lstm|former|pytorch|tensorflow|run|exp\d|seed|adam|lamb\b|muon|sgd",
    re.IGNORECASE,
)


def of_data(names: list[str]) -> int:
    """How much more names sound like datasets than like models: wiki, books; base, large."""
    return sum(bool(_DATA.search(name)) - bool(_MODEL.search(name)) for name in dict.fromkeys(names))


def row_scale(header: str) -> int:
    """What a count in this column is to be multiplied with: `train rows, mln`."""
    return next((factor for pattern, factor in _SCALES if pattern.search(header.lower())), 1)
