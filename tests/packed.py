"""Content to pack, packed files, and bundles with packed variants, intact or damaged."""

import json
from pathlib import Path

from build.bundle_writing import bundle_files, write_bundle
from build.packing import pack
from service.bundle.folder import Bundle, load_bundle, sha256_of
from service.bundle.manifest import MANIFEST, Wire
from service.bundle.packing import zstd

# Compresses to about half.
CONTENT = bytes(range(16)) * 4000 + bytes(i * i * i // 7 % 251 for i in range(64_000))
MEBIBYTE = 2**20


def packed_copy(bundle: Bundle, path: Path, *names: str) -> Bundle:
    """Write the bundle to `path` with these variants packed."""
    files, variants = bundle_files(bundle), dict(bundle.manifest.variants)
    for name in names:
        variant = variants[name]
        file, content = f"{variant.file}.zst", pack(bundle.variant_path(name).read_bytes())
        del files[variant.file]
        files[file] = content
        wire = Wire(file=file, sha256=sha256_of(content), bytes=len(content))
        variants[name] = variant.model_copy(update={"wire": wire})
    return write_bundle(path, bundle.manifest.model_copy(update={"variants": variants}), files)


def replace_packed(bundle: Bundle, name: str, content: bytes) -> Bundle:
    """Replace the file of a packed variant; the manifest gets the new file's hash and size."""
    bundle.variant_path(name).write_bytes(content)
    manifest = json.loads((bundle.path / MANIFEST).read_text())
    manifest["variants"][name]["wire"] |= {"sha256": sha256_of(content), "bytes": len(content)}
    (bundle.path / MANIFEST).write_text(json.dumps(manifest))
    return load_bundle(bundle.path)


def streamed(blocks: int, **options: int) -> bytes:
    """That many MiB of zeros in a frame that does not state its size."""
    named = {zstd.CompressionParameter[name]: value for name, value in options.items()}
    compressor = zstd.ZstdCompressor(options=named)
    return b"".join([*(compressor.compress(bytes(MEBIBYTE)) for _ in range(blocks)), compressor.flush()])
