"""GET /v1/variants: what the bundle holds, what was measured of it, what is loaded."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from service.api.context import Shared
from service.api.problems import documented
from service.errors import InternalError
from service.inference.share import GraphShare
from service.manifest import Evaluation, Latency, Precision

router = APIRouter()


class VariantStatus(BaseModel):
    """One variant of the bundle."""

    name: str
    file: str
    bytes: int
    sha256: str
    precision: Precision
    loaded: bool
    delegate: str | None = Field(description="What it runs on; null where it is not loaded")
    graph: GraphShare | None = Field(
        description="What the delegate took of the graph; `left`: the operators that it did not, by kind"
    )
    fallback: str | None = Field(description="Why it does not run on the delegate that was asked for")
    runtime: str | None = Field(description="What runs it; null where it is not loaded")
    evaluations: list[Evaluation]
    latency: Latency | None = Field(description="Measured where the bundle was built, not here")


class VariantList(BaseModel):
    """The bundle's variants."""

    bundle: str
    default: str
    active: str
    variants: list[VariantStatus]


@router.get("/v1/variants", summary="The bundle's variants", responses=documented(InternalError))
async def variants(shared: Shared) -> VariantList:
    """What the bundle holds, what was measured of each variant, and which one answers."""
    manifest = shared.bundle.manifest
    statuses = []
    for name, variant in manifest.variants.items():
        loaded = shared.variants.loaded(name)
        statuses.append(
            VariantStatus(
                name=name,
                file=variant.file,
                bytes=variant.bytes,
                sha256=variant.sha256,
                precision=variant.precision,
                loaded=loaded is not None,
                delegate=str(loaded.delegate) if loaded else None,
                graph=loaded.share if loaded else None,
                fallback=loaded.fallback if loaded else None,
                runtime=loaded.runtime if loaded else None,
                evaluations=list(variant.evaluations),
                latency=variant.latency,
            )
        )
    return VariantList(
        bundle=manifest.name,
        default=manifest.default_variant,
        active=shared.variants.active.name,
        variants=statuses,
    )
