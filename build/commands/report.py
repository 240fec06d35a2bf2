"""`python -m build report`: measure a bundle's latency and write its model card, or tabulate devices."""

import argparse

from build.bundle_writing import check_replaceable
from build.commands.options.shared import BENCHMARK_RUNS
from build.commands.options.unused import refuse_unused
from build.commands.output import show
from build.errors import BuildError
from build.evidence.devices import BEGIN, END, device_tables, read_reports
from build.evidence.model_card import PICTURE
from build.evidence.report import insert_between, insert_table, split_at_markers, write_report
from build.evidence.tables import variant_table
from service.bundle.folder import Bundle, load_bundle
from service.bundle.manifest import MODEL_CARD


def run(options: argparse.Namespace, _command: str) -> None:
    """Report on a bundle, or make tables from the reports of devices.

    Raises:
        StartError: the command can't be carried out.
    """
    if (options.bundle is None) == (options.devices is None):
        raise BuildError("report takes either a bundle or --devices with device reports")
    if options.bundle:
        bundle = load_bundle(options.bundle)
        check_replaceable(options.bundle)
        if options.insert:
            split_at_markers(options.insert)
        report_on(bundle, options)
        return
    refuse_unused(options, ["runs"], "with --devices, whose reports are already measured")
    tables = device_tables(read_reports(options.devices))
    if options.insert:
        insert_between(options.insert, BEGIN, END, tables)
    show(tables)


def report_on(bundle: Bundle, options: argparse.Namespace) -> None:
    """Measure latency, write the model card, and print the table."""
    bundle = write_report(bundle, options.runs or BENCHMARK_RUNS)
    if options.insert:
        insert_table(bundle.manifest, options.insert)
    show(variant_table(bundle.manifest))
    show(f"\n{bundle.path / MODEL_CARD} and {bundle.path / PICTURE}")
