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
    """Loads variants for real; each load waits until `release` is set."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.release = threading.Event()
        self.release.set()
        self.started = threading.Event()
        self.loaded: list[str] = []

    def __call__(self, name: str) -> LoadedVariant:
        self.started.set()
        assert self.release.wait(30)
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


def test_a_switch_activates_the_variant_and_updates_the_metrics(setup: Setup) -> None:
    assert setup.sample("edgewise_variant_active", variant="fp32") == 1
    assert setup.to("ptq") == "ptq"
    assert setup.sample("edgewise_variant_active", variant="ptq") == 1
    assert setup.sample("edgewise_variant_active", variant="fp32") is None
    assert setup.sample("edgewise_model_bytes", variant="fp32") is None
    assert setup.sample("edgewise_model_bytes", variant="ptq") == setup.load.bundle.variant("ptq").bytes
    assert setup.sample("edgewise_switches_total", variant="ptq", outcome="done") == 1


def test_only_lasting_variants_stay_loaded_after_a_switch(colours: Bundle) -> None:
    setup = Setup(colours, "ptq")
    assert [setup.to("ptq"), setup.to("int8"), setup.to("ptq")] == ["ptq", "int8", "ptq"]
    assert setup.load.loaded == ["int8"]
    assert setup.sample("edgewise_variant_active", variant="int8") is None
    assert setup.to("int8") == "int8"
    assert setup.sample("edgewise_variant_active", variant="ptq") == 0
    assert setup.load.loaded == ["int8", "int8"]


def test_switching_to_the_active_variant_does_nothing(setup: Setup, caplog: pytest.LogCaptureFixture) -> None:
    active = setup.variants.active
    with caplog.at_level("INFO", "edgewise"):
        assert setup.to("fp32") == "fp32"
    assert setup.variants.active is active
    assert setup.load.loaded == []
    assert caplog.records == []


def test_a_switch_during_another_is_refused(setup: Setup) -> None:
    setup.load.release.clear()

    async def switch_twice() -> None:
        first = asyncio.create_task(setup.switch.to("ptq", None))
        assert await asyncio.to_thread(setup.load.started.wait, 30)
        assert setup.variants.active.name == "fp32"
        for other in ("int8", "ptq", "fp32"):
            with pytest.raises(SwitchInProgress, match="ptq is being loaded"):
                await setup.switch.to(other, None)
        setup.load.release.set()
        await first

    asyncio.run(switch_twice())
    assert setup.variants.active.name == "ptq"
    assert setup.to("int8") == "int8"


@pytest.mark.parametrize("outcome", ["done", "failed"])
def test_the_switch_counters_start_at_zero(setup: Setup, outcome: str) -> None:
    assert setup.sample("edgewise_switches_total", variant="ptq", outcome=outcome) == 0


def test_an_unknown_variant_is_refused(setup: Setup) -> None:
    with pytest.raises(UnknownVariant, match="no variant 'nope'"):
        setup.to("nope")
    assert setup.sample("edgewise_switches_total", variant="nope", outcome="failed") is None


def test_an_unusable_variant_leaves_the_active_one(colours: Bundle, caplog: pytest.LogCaptureFixture) -> None:
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
    # The next switch is not refused as one during another.
    with pytest.raises(UnusableVariant):
        setup.to("ptq")


def test_a_switch_is_logged_with_the_client_and_both_variants(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "edgewise"):
        setup.to("ptq")
    (record,) = caplog.records
    details = record.__dict__["fields"]
    assert (details["client"], details["from"], details["to"]) == ("192.0.2.1", "fp32", "ptq")
    assert details["seconds"] >= 0
