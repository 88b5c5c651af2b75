"""Estimators for scikit-learn: a network as one step of a pipeline, a search or a cross-validation.

    from nnx.estimators import NetworkClassifier

    model = make_pipeline(StandardScaler(), NetworkClassifier((100,), dropout=0.2))
    GridSearchCV(model, {"networkclassifier__hidden": [(50,), (100, 100)]}).fit(X, y)

scikit-learn is imported when the first of them is asked for: pip install "nnx-array[sklearn]".
"""

from typing import TYPE_CHECKING, Any

from nnx.synonyms import asked

if TYPE_CHECKING:
    from nnx.estimators.classifier import NetworkClassifier
    from nnx.estimators.regressor import NetworkRegressor

__all__ = ["NetworkClassifier", "NetworkRegressor"]


def __getattr__(name: str) -> Any:
    """Return an estimator's class.

    Raises:
        ImportError: scikit-learn is missing or too old; the message says what to install.
        AttributeError: there is no such name; the message says what it is called here.
    """
    if name not in __all__:
        return asked(__name__, __all__)(name)
    try:
        from sklearn.utils.validation import validate_data  # noqa: F401 - since 1.6
    except ImportError as error:
        raise ImportError(
            "nnx.estimators need scikit-learn 1.6 or later, which is not installed: "
            'pip install "nnx-array[sklearn]"'
        ) from error
    if name == "NetworkClassifier":
        from nnx.estimators.classifier import NetworkClassifier

        return NetworkClassifier
    from nnx.estimators.regressor import NetworkRegressor

    return NetworkRegressor


def __dir__() -> list[str]:
    return __all__
