"""The rules, in the order of their codes. A new rule is a file of its own and a name in this list."""

from lossary.findings.model import Rule
from lossary.findings.rules import (
    broken_numbers,
    duplicate_documents,
    gap_dataset_specific,
    identical_pairs,
    interval_too_wide,
    label_prior,
    learning_rate_schedule,
    loss_accuracy_conflict,
    missing_cells,
    mlm_not_below_unigram,
    not_equal,
    shared_failure_profile,
    shares_differ,
    shares_not_realised,
    smaller_better,
    sop_above_chance,
    sop_at_chance,
    still_falling,
    total_not_weighted_sum,
    train_validation_overlap,
    unknown_pieces,
    worse_than_its_best,
)

__all__ = ["RULES"]

RULES: tuple[Rule, ...] = (
    sop_above_chance.RULE,
    sop_at_chance.RULE,
    mlm_not_below_unigram.RULE,
    loss_accuracy_conflict.RULE,
    gap_dataset_specific.RULE,
    shared_failure_profile.RULE,
    smaller_better.RULE,
    not_equal.RULE,
    total_not_weighted_sum.RULE,
    shares_differ.RULE,
    shares_not_realised.RULE,
    missing_cells.RULE,
    interval_too_wide.RULE,
    train_validation_overlap.RULE,
    unknown_pieces.RULE,
    duplicate_documents.RULE,
    identical_pairs.RULE,
    label_prior.RULE,
    still_falling.RULE,
    broken_numbers.RULE,
    learning_rate_schedule.RULE,
    worse_than_its_best.RULE,
)
