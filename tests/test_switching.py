import asyncio
import threading

import pytest
from prometheus_client import CollectorRegistry

from service.bundle.folder import Bundle
from service.errors import SelfTestError, SwitchInProgress, UnknownVariant, UnusableVariant
from service.inference.loading import LoadedVariant, load_variant
from service.inference.variants import Variants
from service.monitoring.metrics import Metrics
from service.switching import Switch


class Loader:
    """Loads variants for real; holds each one back where it is told to."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.let = threading.Event()
        self.let.set()
        self.begun = threading.Event()
        self.loaded: list[str] = []

    def __call__(self, name: str) -> LoadedVariant:
        self.begun.set()
        assert self.let.wait(30)
        self.loaded.append(name)
        return load_variant(self.bundle, name, workers=1)


class Setup:
    """A switch between the colours' variants, with `fp32` active."""

    def __init__(self, bundle: Bundle, *lasting: str) -> None:
        self.load = Loader(bundle)
        self.variants = Variants(
            bundle,
            load_variant(bundle, "fp32", workers=1),
            [load_variant(bundle, name, workers=1) for name in lasting],
        )
        self.metrics = Metrics(CollectorRegistry())
        self.switch = Switch(bundle, self.variants, self.load, self.metrics)

    def to(self, name: str) -> str:
        asyncio.run(self.switch.to(name, "192.0.2.1"))
        return self.variants.active.name

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
def setup(colours: Bundle) -> Setup:
    return Setup(colours)


def test_another_variant_becomes_active_and_the_metrics_are_of_what_is_loaded(setup: Setup) -> None:
    assert setup.sample("edgewise_variant_active", variant="fp32") == 1
    assert setup.to("ptq") == "ptq"
    assert setup.sample("edgewise_variant_active", variant="ptq") == 1
    assert setup.sample("edgewise_variant_active", variant="fp32") is None
    assert setup.sample("edgewise_model_bytes", variant="fp32") is None
    assert setup.sample("edgewise_model_bytes", variant="ptq") == setup.load.bundle.variant("ptq").bytes
    assert setup.sample("edgewise_switches_total", variant="ptq", outcome="done") == 1


def test_what_is_loaded_is_not_loaded_again_and_what_is_to_last_lasts(colours: Bundle) -> None:
    setup = Setup(colours, "ptq")
    assert [setup.to("ptq"), setup.to("int8"), setup.to("ptq")] == ["ptq", "int8", "ptq"]
    assert setup.load.loaded == ["int8"]
    assert setup.sample("edgewise_variant_active", variant="int8") is None
    assert setup.to("int8") == "int8"
    assert setup.sample("edgewise_variant_active", variant="ptq") == 0
    assert setup.load.loaded == ["int8", "int8"]


def test_to_the_active_one_nothing_is_done(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    active = setup.variants.active
    with caplog.at_level("INFO", "edgewise"):
        assert setup.to("fp32") == "fp32"
    assert setup.variants.active is active
    assert setup.load.loaded == []
    assert caplog.records == []


def test_a_second_switch_has_to_wait(setup: Setup) -> None:
    setup.load.let.clear()

    async def two() -> None:
        first = asyncio.create_task(setup.switch.to("ptq", None))
        assert await asyncio.to_thread(setup.load.begun.wait, 30)
        assert setup.variants.active.name == "fp32"
        for other in ("int8", "ptq", "fp32"):
            with pytest.raises(SwitchInProgress, match="ptq is being loaded"):
                await setup.switch.to(other, None)
        setup.load.let.set()
        await first

    asyncio.run(two())
    assert setup.variants.active.name == "ptq"
    assert setup.to("int8") == "int8"


@pytest.mark.parametrize("outcome", ["done", "failed"])
def test_switches_are_counted_from_none(setup: Setup, outcome: str) -> None:
    assert setup.sample("edgewise_switches_total", variant="ptq", outcome=outcome) == 0


def test_what_the_bundle_does_not_have_is_told(setup: Setup) -> None:
    with pytest.raises(UnknownVariant, match="no variant 'nope'"):
        setup.to("nope")
    assert setup.sample("edgewise_switches_total", variant="nope", outcome="failed") is None


def test_what_can_not_be_used_leaves_all_as_it_was(colours: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup(colours)

    def fail(name: str) -> LoadedVariant:
        raise SelfTestError(f"{name} computes something else")

    setup.switch = Switch(colours, setup.variants, fail, setup.metrics)
    with caplog.at_level("INFO", "edgewise"), pytest.raises(UnusableVariant) as caught:
        setup.to("ptq")
    assert str(caught.value) == "fp32 stays active, because ptq can't be used: ptq computes something else"
    assert setup.variants.active.name == "fp32"
    assert setup.sample("edgewise_switches_total", variant="ptq", outcome="failed") == 1
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    # The next one is not taken for a second one.
    with pytest.raises(UnusableVariant):
        setup.to("ptq")


def test_the_log_says_who_switched_from_what_to_what(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "edgewise"):
        setup.to("ptq")
    (record,) = caplog.records
    details = record.__dict__["fields"]
    assert (details["client"], details["from"], details["to"]) == ("192.0.2.1", "fp32", "ptq")
    assert details["seconds"] >= 0
