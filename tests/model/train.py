"""Trains models of every kind that Switchboard takes, and some that it must refuse, into a folder.

For each model: NAME.json as saved, NAME.features with the configuration's names of its features, and, unless it is to
be refused, NAME.rows and NAME.predictions as 32-bit floats, little endian.
"""

import json
import pathlib
import sys

import numpy as np
import xgboost as xgb

ROWS = 4000
NAMES = [
    "message.size",
    "message.length",
    "conversation.priority",
    "conversation.waited_s",
    "customer.age",
    "customer.vip",
    "agent.spare",
    "agent.skill",
    "agent.affinity",
    "now.hour",
]

folder = pathlib.Path(sys.argv[1])
rng = np.random.default_rng(20)
pruned = False


def rows():
    """Numbers of different sizes, some of few values so that they meet a split exactly, and a fifth missing."""
    wide = rng.lognormal(5, 2, (ROWS, 2))
    few = rng.integers(0, 24, (ROWS, 4))
    unit = rng.random((ROWS, 2))
    signed = rng.normal(0, 1, (ROWS, 2))
    x = np.hstack([wide, few, unit, signed]).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = np.nan
    x[:20] = np.nan
    return x


def margin(x):
    x = np.nan_to_num(x, nan=3.0)
    return np.sin(x[:, 2]) + (x[:, 4] > 12) * x[:, 8] + np.log1p(x[:, 0]) * x[:, 6] / 4 - x[:, 7] * x[:, 9] - 1


def save(name, booster, test=None, matrix=None):
    path = folder / f"{name}.json"
    booster.save_model(path)
    (folder / f"{name}.features").write_text("\n".join(NAMES) + "\n")
    if test is None:
        return
    test.astype("<f4").tofile(folder / f"{name}.rows")
    predictions = booster.predict(matrix or xgb.DMatrix(test, feature_names=booster.feature_names))
    assert predictions.shape == (ROWS,) and predictions.dtype == np.float32
    predictions.astype("<f4").tofile(folder / f"{name}.predictions")
    model = json.loads(path.read_text())["learner"]["gradient_booster"]
    trees = model.get("gbtree", model)["model"]["trees"]
    deleted = sum(int(tree["tree_param"]["num_deleted"]) for tree in trees)
    global pruned
    pruned = pruned or deleted > 0
    print(f"{name}: {len(trees)} trees, {sum(len(tree['left_children']) for tree in trees)} nodes, {deleted} deleted")


def train(name, parameters, rounds, label, *, named=True, groups=None, stop=None, test=True):
    x = rows()
    matrix = xgb.DMatrix(x, label=label(x), feature_names=NAMES if named else None)
    if groups:
        matrix.set_group([groups] * (ROWS // groups))
    extra = {}
    if stop:
        held = rows()
        extra = {
            "evals": [(xgb.DMatrix(held, label=label(held), feature_names=matrix.feature_names), "held")],
            "early_stopping_rounds": stop,
        }
    booster = xgb.train({"seed": 7, "nthread": 2} | parameters, matrix, rounds, verbose_eval=False, **extra)
    save(name, booster, rows() if test else None)
    return booster


def number(x):
    return margin(x) + rng.normal(0, 0.3, len(x))


def chance(x):
    return (rng.random(len(x)) < 1 / (1 + np.exp(-margin(x)))).astype(float)


def share(x):
    return 1 / (1 + np.exp(-margin(x)))


def rank(x):
    return np.digitize(margin(x), [-1, 0, 1, 2]).astype(float)


def often(x):
    return (chance(x) + chance(x) > 0).astype(float)


train("regression", {"objective": "reg:squarederror", "max_depth": 6}, 100, number)
train("regression_large", {"objective": "reg:squarederror", "max_depth": 5}, 100, lambda x: 1000 * number(x) + 5e4)
train("logistic", {"objective": "binary:logistic", "max_depth": 4, "scale_pos_weight": 2}, 60, chance)
train("logistic_unnamed", {"objective": "binary:logistic", "max_depth": 3}, 30, often, named=False)
train("logistic_base", {"objective": "binary:logistic", "max_depth": 3, "base_score": 0.03}, 10, often)
train("logistic_share", {"objective": "reg:logistic", "max_depth": 5}, 40, share)
train("logit_raw", {"objective": "binary:logitraw", "max_depth": 4}, 40, chance)
train("logit_raw_base", {"objective": "binary:logitraw", "max_depth": 4, "base_score": 0.2}, 5, chance)
train("rank_pairwise", {"objective": "rank:pairwise", "max_depth": 4}, 40, rank, groups=20)
train("rank_ndcg", {"objective": "rank:ndcg", "max_depth": 6}, 40, rank, groups=20)
train("rank_map", {"objective": "rank:map", "max_depth": 4}, 20, chance, groups=20)
train("stumps", {"objective": "binary:logistic", "max_depth": 1}, 200, chance)
train("deep", {"objective": "reg:squarederror", "max_depth": 14, "min_child_weight": 0}, 20, number)
train(
    "leafwise",
    {"objective": "binary:logistic", "grow_policy": "lossguide", "max_leaves": 300, "max_depth": 0, "eta": 0.05},
    13,
    chance,
)
train("single_leaf", {"objective": "binary:logistic", "gamma": 1e9}, 3, chance)
train("pruned", {"objective": "reg:squarederror", "tree_method": "exact", "gamma": 3, "max_depth": 8}, 20, number)
train("forest", {"objective": "reg:squarederror", "num_parallel_tree": 8, "subsample": 0.5, "eta": 1}, 3, number)
train("dart", {"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.3, "max_depth": 4}, 40, chance)
stopped = train("stopped_early", {"objective": "binary:logistic", "max_depth": 8, "eta": 0.5}, 200, chance, stop=9)
assert stopped.best_iteration + 1 < stopped.num_boosted_rounds(), "all trees must count, not the best ones"
assert pruned, "no model has nodes that pruning has cut off"

# What must not be taken.
train("refused_classes", {"objective": "multi:softprob", "num_class": 5}, 2, rank, test=False)
train("refused_linear", {"objective": "binary:logistic", "booster": "gblinear"}, 2, chance, test=False)
train("refused_objective", {"objective": "count:poisson"}, 2, rank, test=False)
x = rows()
both = xgb.DMatrix(x, label=np.stack([number(x), number(x)], 1), feature_names=NAMES)
save("refused_targets", xgb.train({"objective": "reg:squarederror"}, both, 2))
save("refused_vectors", xgb.train({"multi_strategy": "multi_output_tree", "tree_method": "hist"}, both, 2))
x[:, 2] = rng.integers(0, 8, ROWS)
kinds = ["q", "q", "c"] + ["q"] * 7
category = xgb.DMatrix(
    x, label=x[:, 2] % 2, feature_names=NAMES, feature_types=kinds, enable_categorical=True
)
save("refused_categories", xgb.train({"tree_method": "hist"}, category, 2))
(folder / "refused_binary.json").write_bytes(stopped.save_raw("ubj"))
(folder / "refused_binary.features").write_text("\n".join(NAMES) + "\n")
