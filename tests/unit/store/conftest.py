import pytest


@pytest.fixture(params=["frames", "vectors"])
def kind(request):
    return request.param
