"""Pictures of trainings, results, images and weights.

A function returns a new Figure, which has the Axes in `figure.axes`; `figure.savefig(path)` writes
it. With `ax=` it draws into the Axes given, one or as many as the picture has panels, and returns
what was given. Arrays may be those of any backend.

A notebook shows the figure if it is the last expression of a cell. No window opens and pyplot's
global state is left alone, so everything works without a display. matplotlib is imported when the
first picture is drawn: pip install "nnx-array[examples]".
"""

from nnx.plotting._panels import require_matplotlib
from nnx.plotting.curves import plot_activations, plot_curves, plot_history
from nnx.plotting.histograms import plot_gradients, plot_weights
from nnx.plotting.images import plot_digits, plot_filters, plot_images
from nnx.plotting.results import plot_confusion_matrix, plot_predictions
from nnx.synonyms import asked

__all__ = [
    "plot_activations",
    "plot_confusion_matrix",
    "plot_curves",
    "plot_digits",
    "plot_filters",
    "plot_gradients",
    "plot_history",
    "plot_images",
    "plot_predictions",
    "plot_weights",
    "require_matplotlib",
]

__getattr__ = asked(__name__, __all__)
