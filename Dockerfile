# The service for linux/amd64 and linux/arm64: docs/containers.md.
#
# The service's stages run on the build machine's platform, whatever the image's: packages are only unpacked.
# Both bases should have the same minor version of Python.
ARG BUILD_BASE=docker.io/library/python:3.11-slim-bookworm
ARG RUN_BASE=gcr.io/distroless/python3-debian12:latest
ARG VERSION=0.1.0

FROM --platform=$BUILDPLATFORM ${BUILD_BASE} AS packages
ARG TARGETARCH
# Or tflite: docs/delegates.md.
ARG RUNTIME=litert
COPY requirements/install-target requirements/sbom.py requirements/strip.py requirements/serve.txt \
    requirements/tflite.txt /requirements/
RUN case $RUNTIME in \
        litert) requirements=serve.txt ;; \
        tflite) requirements=tflite.txt ;; \
        *) echo "RUNTIME is $RUNTIME, but it should be litert or tflite" >&2; exit 1 ;; \
    esac; \
    /requirements/install-target "$TARGETARCH" "/requirements/$requirements" /app/packages
ARG VERSION
RUN python3 /requirements/sbom.py /app/packages /app/packages.json "$VERSION" > /app/sbom.json

FROM --platform=$BUILDPLATFORM ${BUILD_BASE} AS code
COPY service /app/service
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /app/service && chmod -R a+rX /app

FROM --platform=$BUILDPLATFORM ${BUILD_BASE} AS bundle
ARG BUNDLE=models/imagenet-1k
# Or the variants to include, comma-separated, or none: then the bundle must be mounted.
ARG VARIANTS=all
COPY ${BUNDLE} /models/bundle
WORKDIR /models/bundle
RUN case $VARIANTS in \
        all) ;; \
        none) rm -rf ./* ;; \
        *) mkdir /kept; \
            IFS=,; for name in $VARIANTS; do mv "$name.tflite"* /kept || exit 1; done; \
            rm -f ./*.tflite ./*.tflite.zst; \
            mv /kept/* . ;; \
    esac; \
    chmod -R a+rX /models

# The build stage, for compressing your own model: --target build, docs/build.md. Unlike the other stages, it runs on
# the platform of its image, and contributes nothing to the service's image.
FROM ${BUILD_BASE} AS build
WORKDIR /app
COPY requirements/build.txt /requirements/
RUN python3 -m pip install --no-cache-dir --no-compile --root-user-action ignore --only-binary :all: \
    --require-hashes --target /app/packages --requirement /requirements/build.txt
COPY LICENSE NOTICE /app/
COPY service /app/service
COPY build /app/build
COPY models/imagenet-1k /app/models/imagenet-1k
RUN chmod -R a+rX /app/service /app/build /app/models
# It may run as any user, so that they own what it writes; that user may have no home. What they mount at /project is
# not for Python to run, whatever the names of its files (PYTHONSAFEPATH).
ENV PYTHONPATH=/app:/app/packages \
    PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
USER 10001:10001
WORKDIR /project
HEALTHCHECK NONE
ENTRYPOINT ["python3", "-m", "build"]

FROM ${RUN_BASE}
ARG RUN_BASE
ARG VERSION
ARG REVISION=
LABEL org.opencontainers.image.title="edgewise" \
    org.opencontainers.image.description="Image classification on edge nodes" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.base.name="${RUN_BASE}"
WORKDIR /app
# Layers that change least come first.
COPY --from=packages /app/packages /app/packages
COPY LICENSE NOTICE /app/
COPY --from=packages /app/sbom.json /app/sbom.json
COPY --from=bundle /models /models
COPY --from=code /app/service /app/service
ENV PYTHONPATH=/app:/app/packages \
    PYTHONDONTWRITEBYTECODE=1 \
    EDGEWISE_HOST=0.0.0.0 \
    EDGEWISE_BUNDLE=/models/bundle
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python3", "-m", "service.health"]
ENTRYPOINT ["python3", "-m", "service"]
