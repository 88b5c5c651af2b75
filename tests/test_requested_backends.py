from conftest import why_unusable


def test_a_requested_backend_is_usable(requested_spec):
    assert why_unusable(requested_spec) is None
