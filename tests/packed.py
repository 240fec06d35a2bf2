"""Bundles with packed variants, intact or damaged."""

import json
from pathlib import Path

from build.bundle_writing import bundle_files, write_bundle
from build.packing import pack
from service.bundle.folder import Bundle, load_bundle, sha256_of
from service.bundle.manifest import MANIFEST, Wire


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
