"""Headers in other languages as English ones: `Perte d'entraînement` → `loss train`, `验证集损失` → `val loss`.

Only words for a metric and for a split are translated, and the small words beside them go; names stay as written.
"""

import re
from functools import lru_cache

__all__ = ["english_split", "translated"]

_SPLITS = {
    "train": r"entraînements?|entrainements?|apprentissage|trainings|entrenamiento|treinamento|treino|addestramento"
    r"|обуч\w+|тренир\w+|тренировк\w+|трейн\w*|treningow\w+|uczeni\w+",
    "val": r"validierungs?|evaluierungs?|validaci[óo]n|validação|convalida|validazione|évaluation|evaluaci[óo]n"
    r"|валид\w+|вал|walidac\w+|validatie",
    "test": r"prueba|teste|тест\w*|testow\w+",
}
# Beside a metric in another language they may have its small words: `perte de validation sur`.
_ENGLISH_SPLITS = {"train": "training", "val": "validation", "test": "tests?"}
_METRICS = {
    "loss": r"verluste?|pertes?|p[ée]rdidas?|perdas?|perdita|потер[ияьюе]\w*|функция потерь|лосс\w*|strat[ay]|verlies",
    "accuracy": r"genauigkeit|exactitude|exactitud|acurácia|accuratezza|точность|dokładność|nauwkeurigheid",
    "perplexity": r"perplexität|perplexit[ée]|perplejidad|perplexidade|perplessità|перплексия",
}
# Chinese and Japanese have no blanks between words; Korean has them.
_ASIAN = {
    "train": r"(?:训练|訓練|学习|学習|トレーニング|훈련|학습)(?:集|データ|時|用)?",
    "val": r"(?:验证|驗證|校验|検証|バリデーション|评估|評価|검증)(?:集|データ|時|用)?",
    "test": r"(?:测试|測試|テスト|테스트|시험)(?:集|データ|時|用)?",
    "loss": r"(?:损失|損失|ロス|손실)(?:值|値|函数|関数)?",
    "accuracy": r"准确率|準確率|正解率|正确率|정확도",
    "perplexity": r"困惑度|パープレキシティ|퍼플렉서티",
}
_SMALL = r"(?:de|du|des|la|le|del|della|di|do|da|en|sur|auf|an|bei|der|dem|den|im|beim|на|по|при|в|van|op)"
_BEFORE = rf"(?:(?<!\w){_SMALL}\s+)*(?:[dl]')?"
_SET = r"(?:[ -]?(?:set|satz|daten|menge|выборк\w+|данн\w+|набор\w*))?"
_AFTER = rf"(?:\s+{_SMALL}(?=\s))*"
# `Validierungsverlust` is one word.
_COMPOUND = re.compile(
    r"\b(validierungs|evaluierungs|trainings|test)-?(?=verlust|genauigkeit|perplexität)", re.IGNORECASE
)
_IS_METRIC = re.compile(rf"\b(?:{'|'.join(_METRICS.values())})\b|{'|'.join(list(_ASIAN.values())[3:])}", re.IGNORECASE)
_IN_ENGLISH = re.compile(r"\b(?:loss(?:es)?|acc(?:uracy)?|ppl|perplexity|mlm|sop|nsp|clm)\b", re.IGNORECASE)


@lru_cache(maxsize=4096)
def translated(text: str) -> str:
    """A header with its words for metric and split in English; as it is if it names no metric."""
    plain = _COMPOUND.sub(r"\1 ", text.replace("’", "'"))
    is_foreign = _IS_METRIC.search(plain) is not None
    if not is_foreign and not _IN_ENGLISH.search(plain):
        return text
    whole = plain
    for word, pattern in (_SPLITS | (_METRICS if is_foreign else {})).items():
        if is_foreign:
            known = f"{pattern}|{_ENGLISH_SPLITS[word]}" if word in _SPLITS else pattern
            pattern = rf"{_BEFORE}\b(?:{known}){_SET}\b{_AFTER}"
        whole = re.sub(rf"\b(?:{pattern})\b", f" {word} ", whole, flags=re.IGNORECASE)
    if is_foreign and not whole.isascii():
        for word, pattern in _ASIAN.items():
            whole = re.sub(pattern, f" {word} ", whole)
        whole = re.sub(r"(?<=\s)[的の](?=\s)", " ", whole)
    return text if whole == plain else re.sub(r"(?<=[(\[])\s+|\s+(?=[)\]])", "", " ".join(whole.split()))


def english_split(word: str) -> str | None:
    """The English word for a split: `Validierung` → val, `训练集` → train."""
    for english, pattern in _SPLITS.items():
        if re.fullmatch(rf"(?:{pattern}){_SET}|{_ASIAN[english]}", word, re.IGNORECASE):
            return english
    return None
