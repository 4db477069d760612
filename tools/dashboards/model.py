"""The dashboard of the model: predictions, drift and feedback of each version."""

from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.dashboard import Dashboard

from tools.dashboards.parts import (
    GREEN,
    RED,
    WIDTH,
    YELLOW,
    Column,
    Panel,
    Query,
    assembled,
    choice,
    compared,
    graph,
    listed,
)

# The usual thresholds of a population stability index: below 0.1 is no drift, above 0.25 is much.
PSI = ((None, GREEN), (0.1, YELLOW), (0.25, RED))
NO_FEEDBACK = "no feedback arrived"
NO_REGRESSION, NO_CLASSIFICATION = "no feedback, or no regression", "no feedback, or no classification"
UNWATCHED, NO_CATEGORIES = "drift is turned off", "drift is turned off, or no feature has categories"


def dashboard() -> Dashboard:
    """Return the dashboard of the model."""
    return assembled(
        "bakehouse-model",
        "Bakehouse: model",
        "Predictions, data drift and feedback of each model version.",
        {
            "Versions": _versions(),
            "Predictions": _predictions(),
            "Features": _features(),
            "Feedback": _feedback(),
        },
        more=[
            choice(
                "feature",
                "label_values(bakehouse_feature_importance{OF_VERSION}, feature)",
                "The feature whose distribution is shown.",
            )
        ],
        since="now-24h",
    )


def _versions() -> list[Panel]:
    return [
        listed(
            "Models",
            "Models that the pods serve now, their engine, and whether its answers equal the estimator's bit for bit.",
            "digest",
            [Column("pods", "count by (name, version, digest, engine, exact) (bakehouse_model_info{OF_VERSION})")],
            sort="pods",
            width=WIDTH // 2,
        ),
        graph(
            "Pods by version",
            "Pods that serve each version. During a rollout, one version replaces the other.",
            units.Short,
            Query("count by (version) (bakehouse_model_info{OF_VERSION})", "{{version}}"),
            width=WIDTH // 2,
            stacked=True,
        ),
    ]


def _predictions() -> list[Panel]:
    return [
        graph(
            "Predicted rows",
            "Rows predicted per second, by version.",
            units.RowsPerSecond,
            Query(
                "sum by (version) (rate(bakehouse_predicted_rows_total{OF_VERSION}[$__rate_interval]))", "{{version}}"
            ),
        ),
        graph(
            "Refused predictions",
            "Prediction requests refused per second, by the code of their first problem.",
            units.RequestsPerSecond,
            Query("sum by (code) (rate(bakehouse_prediction_errors_total{OF_VERSION}[$__rate_interval]))", "{{code}}"),
            empty="no request was refused",
        ),
        graph(
            "Prediction drift",
            "Distance between the predictions and those on the training rows: population stability index, and"
            " Jensen-Shannon distance (0 to 1). Both are noise while there are few rows, as after a rollout.",
            units.NoUnit,
            Query("max by (version) (bakehouse:prediction_drift_psi{OF_VERSION})", "PSI {{version}}"),
            Query("max by (version) (bakehouse:prediction_drift_js_distance{OF_VERSION})", "JS {{version}}"),
            marks=PSI,
            empty=UNWATCHED,
        ),
        _distribution(
            "Predictions now and in training",
            "Share of the predictions in each bin, in the time range and in training."
            " Choose one version while the pods serve two.",
            "bakehouse_prediction",
            "OF_VERSION",
            width=WIDTH,
        ),
    ]


def _features() -> list[Panel]:
    def worst(kind: str, title: str, description: str, empty: str = UNWATCHED) -> Panel:
        return graph(
            title,
            description,
            units.PercentUnit,
            Query(f"topk(5, max by (feature) (bakehouse:feature_{kind}_ratio{{OF_VERSION}}))", "{{feature}}"),
            empty=empty,
        )

    return [
        listed(
            "Drift by feature",
            "Each watched feature now: its importance in training, its drift, and shares of values that are missing,"
            " outside the training range, or of a category unknown in training.",
            "feature",
            [
                Column("importance", "max by (feature) (bakehouse_feature_importance{OF_VERSION})", decimals=3),
                Column("PSI", "max by (feature) (bakehouse:feature_drift_psi{OF_VERSION})", decimals=3),
                Column("JS distance", "max by (feature) (bakehouse:feature_drift_js_distance{OF_VERSION})", decimals=3),
                *(
                    Column(kind, f"max by (feature) (bakehouse:feature_{kind}_ratio{{OF_VERSION}})", units.PercentUnit)
                    for kind in ("missing", "outside", "unknown")
                ),
            ],
            sort="PSI",
            width=WIDTH // 2,
            empty=UNWATCHED,
        ),
        graph(
            "Feature drift",
            "Population stability index of the ten features that drifted most.",
            units.NoUnit,
            Query(
                "topk(10, max by (version, feature) (bakehouse:feature_drift_psi{OF_VERSION}))",
                "{{feature}} {{version}}",
            ),
            width=WIDTH // 2,
            marks=PSI,
            empty=UNWATCHED,
        ),
        _distribution(
            "$feature now and in training",
            "Share of the values in each bin, in the time range and in training."
            " Choose one version while the pods serve two.",
            "bakehouse_feature",
            'OF_VERSION, feature="$feature"',
            width=WIDTH,
        ),
        worst("missing", "Missing values", "Share of rows without a value, for the five worst features."),
        worst(
            "outside",
            "Outside the training range",
            "Share of rows with a value below or above all training rows, for the five worst features.",
        ),
        worst(
            "unknown",
            "Unknown categories",
            "Share of rows with a category unknown in training, for the five worst features.",
            NO_CATEGORIES,
        ),
    ]


def _feedback() -> list[Panel]:
    def quality(title: str, description: str, unit: str, name: str, score: str, empty: str) -> Panel:
        return graph(
            title,
            description,
            unit,
            Query(f"max by (version) (bakehouse:feedback_{name}{{OF_VERSION}})", "feedback {{version}}"),
            Query(score, "held out {{version}}"),
            empty=empty,
        )

    return [
        quality(
            "Mean absolute error",
            "Mean distance between predictions and true values, in the target's unit, and the same on held-out data.",
            units.NoUnit,
            "mean_absolute_error",
            '-max by (version) (bakehouse_model_score{OF_VERSION, score="neg_mean_absolute_error"})',
            NO_REGRESSION,
        ),
        graph(
            "Bias",
            "Mean of prediction minus true value, in the target's unit. Above 0, predictions are too high.",
            units.NoUnit,
            Query("max by (version) (bakehouse:feedback_bias{OF_VERSION})", "{{version}}"),
            signed=True,
            empty=NO_REGRESSION,
        ),
        graph(
            "Feedback",
            "Rows with a true value received per second: accepted, repeated, or for an unknown prediction.",
            units.RowsPerSecond,
            Query("sum by (result) (rate(bakehouse_feedback_rows_total{OF_VERSION}[$__rate_interval]))", "{{result}}"),
            empty=NO_FEEDBACK,
        ),
        quality(
            "Accuracy",
            "Share of predictions that were correct, and the same on the held-out data.",
            units.PercentUnit,
            "accuracy",
            'max by (version) (bakehouse_model_score{OF_VERSION, score="accuracy"})',
            NO_CLASSIFICATION,
        ),
        graph(
            "Log loss and Brier score",
            "Distance between the probabilities and the true classes. Lower is better.",
            units.NoUnit,
            Query("max by (version) (bakehouse:feedback_log_loss{OF_VERSION})", "log loss {{version}}"),
            Query("max by (version) (bakehouse:feedback_brier{OF_VERSION})", "Brier {{version}}"),
            empty=NO_CLASSIFICATION,
        ),
        graph(
            "Feedback rows",
            "Rows with a true value in the window of the rules. The other panels are noise while there are few.",
            units.Short,
            Query("max by (version) (bakehouse:feedback_rows{OF_VERSION})", "{{version}}"),
            empty=NO_FEEDBACK,
        ),
    ]


def _distribution(title: str, description: str, metric: str, matchers: str, *, width: int) -> Panel:
    """Return bars of the bins of a metric's rows and of its reference."""
    # All pods of a version export the same reference. "and" drops the rows of versions that no pod serves any more.
    reference = f"max by (version, bin) ({metric}_reference_ratio{{{matchers}}})"
    rows = f"(sum by (version, bin) (increase({metric}_rows_total{{{matchers}}}[$__range])) and {reference})"
    return compared(
        title,
        description,
        units.PercentUnit,
        "bin",
        [
            Column("now", f"sum by (bin) ({rows}) / scalar(sum({rows}) > 0)"),
            Column("training", f"sum by (bin) ({reference}) / scalar(count(count by (version) ({reference})))"),
        ],
        width=width,
        empty=UNWATCHED,
    )
