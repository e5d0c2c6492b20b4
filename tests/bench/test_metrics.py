import numpy as np
import pytest

from modelkit.bench.metrics.metric import Evaluated
from modelkit.bench.metrics.registry import find_metric, metric_names
from modelkit.core.errors import ModelkitError

RNG = np.random.default_rng(0)


def figure(name, batch):
    metric = find_metric(name)
    rows = metric.rows(batch)
    assert len(rows) == len(batch.outputs[0])
    low, high = metric.interval(rows, np.random.default_rng(0))
    value = metric.total(rows)
    assert low <= value + 1e-9 and value <= high + 1e-9
    return value


def test_accuracy_and_top5():
    scores, labels = RNG.standard_normal((50, 10)).astype(np.float32), RNG.integers(0, 10, 50)
    batch = Evaluated({}, [scores], labels)
    assert (
        figure("accuracy", batch)
        == sum(int(max(range(10), key=row.__getitem__)) == y for row, y in zip(scores, labels, strict=True)) / 50
    )
    ranked = [sorted(range(10), key=lambda c, row=row: -row[c])[:5] for row in scores]
    assert figure("top5", batch) == sum(int(y) in best for best, y in zip(ranked, labels, strict=True)) / 50


def test_accuracy_reads_one_hot_labels_and_pixels():
    scores, labels = RNG.standard_normal((6, 3)), RNG.integers(0, 3, 6)
    assert figure("accuracy", Evaluated({}, [scores], np.eye(3)[labels])) == (scores.argmax(1) == labels).mean()
    pixels, truth = RNG.standard_normal((4, 3, 5, 5)), RNG.integers(0, 3, (4, 5, 5))
    assert figure("accuracy", Evaluated({}, [pixels], truth)) == pytest.approx((pixels.argmax(1) == truth).mean())


def test_accuracy_refuses_what_is_no_classifier():
    with pytest.raises(ModelkitError, match="samples, classes"):
        find_metric("accuracy").rows(Evaluated({}, [np.zeros((4, 1))], np.zeros(4, np.int64)))


def test_labels_beyond_the_classes_are_refused():
    with pytest.raises(ModelkitError, match="classes 0 to 2"):
        find_metric("accuracy").rows(Evaluated({}, [np.zeros((3, 3))], np.array([1, 2, 3])))


def test_mse():
    outputs, labels = RNG.standard_normal((8, 3)), RNG.standard_normal((8, 3))
    assert figure("mse", Evaluated({}, [outputs], labels)) == pytest.approx(np.mean((outputs - labels) ** 2))


def test_agreement_cosine_sqnr_and_kl():
    theirs = RNG.standard_normal((40, 7))
    ours = theirs + 0.3 * RNG.standard_normal((40, 7))
    batch = Evaluated({}, [ours], None, [theirs])
    assert figure("agreement", batch) == np.mean(ours.argmax(1) == theirs.argmax(1))
    cosines = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(ours, theirs, strict=True)]
    assert figure("cosine", batch) == pytest.approx(np.mean(cosines))
    assert figure("sqnr", batch) == pytest.approx(10 * np.log10((theirs**2).sum() / ((ours - theirs) ** 2).sum()))

    def softmax(x):
        return np.exp(x) / np.exp(x).sum()

    divergences = [
        sum(p * np.log(p / q) for p, q in zip(softmax(t), softmax(o), strict=True)) for o, t in zip(ours, theirs, strict=True)
    ]
    assert figure("kl", batch) == pytest.approx(np.mean(divergences))
    probabilities = Evaluated({}, [np.stack([softmax(row) for row in ours])], None, [np.stack([softmax(row) for row in theirs])])
    assert figure("kl", probabilities) == pytest.approx(np.mean(divergences))


def test_equal_outputs_are_finite():
    same = RNG.standard_normal((5, 4)).astype(np.float32)
    batch = Evaluated({}, [same], None, [same.copy()])
    assert figure("sqnr", batch) == pytest.approx(138.5, abs=0.1)
    assert figure("cosine", batch) == pytest.approx(1.0)
    assert figure("kl", batch) == pytest.approx(0.0)
    assert figure("agreement", batch) == 1.0
    zero = Evaluated({}, [np.zeros((3, 2))], None, [np.zeros((3, 2))])
    assert figure("cosine", zero) == 1.0


def test_reference_of_another_shape_is_refused():
    with pytest.raises(ModelkitError, match="shapes"):
        find_metric("cosine").rows(Evaluated({}, [np.zeros((3, 2))], None, [np.zeros((3, 4))]))


def test_perplexity_counts_tokens_not_samples():
    scores, ids = RNG.standard_normal((3, 6, 11)), RNG.integers(0, 11, (3, 6))
    ids_with_gaps = ids.copy()
    ids_with_gaps[0, 3:] = -100
    losses = []
    for i in range(3):
        for j in range(5):
            if ids_with_gaps[i, j + 1] != -100:
                row = scores[i, j]
                losses.append(np.log(np.exp(row).sum()) - row[ids[i, j + 1]])
    assert figure("perplexity", Evaluated({}, [scores], ids_with_gaps)) == pytest.approx(np.exp(np.mean(losses)))
    assert figure("perplexity", Evaluated({"input_ids": ids}, [scores])) > 1
    with pytest.raises(ModelkitError, match="token ids"):
        find_metric("perplexity").rows(Evaluated({}, [np.zeros((3, 10))], np.zeros(3)))


def test_spearman_matches_ranks_with_ties():
    from scipy.stats import spearmanr

    scores, labels = RNG.integers(0, 6, 60).astype(float), RNG.integers(0, 4, 60)
    assert figure("spearman", Evaluated({}, [scores[:, None]], labels)) == pytest.approx(spearmanr(scores, labels).statistic)
    first, second = RNG.standard_normal((2, 30, 8))
    truth = RNG.standard_normal(30)
    cosines = [a @ b / np.sqrt((a @ a) * (b @ b)) for a, b in zip(first, second, strict=True)]
    expected = spearmanr(cosines, truth).statistic
    assert figure("spearman", Evaluated({}, [first, second], truth)) == pytest.approx(expected)
    assert figure("spearman", Evaluated({}, [np.stack([first, second], 1)], truth)) == pytest.approx(expected)


def test_a_function_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "my_metric.py").write_text("def largest(outputs, labels):\n    return outputs[0].max(axis=1)\n")
    monkeypatch.syspath_prepend(tmp_path)
    scores = RNG.standard_normal((9, 4))
    assert figure("my_metric:largest", Evaluated({}, [scores])) == pytest.approx(scores.max(axis=1).mean())


def test_unknown_and_broken_metrics_are_user_errors():
    with pytest.raises(ModelkitError, match="accuracy, agreement"):
        find_metric("acuracy")
    with pytest.raises(ModelkitError, match="can't be loaded"):
        find_metric("no_such_module:metric")
    assert {"accuracy", "top5", "agreement", "mse", "cosine", "sqnr", "kl", "perplexity", "spearman"} <= set(metric_names())
    assert all(find_metric(name).name == name for name in metric_names())
