"""A service in which the variant to be searched answers: one started here, or one that is switched."""

import argparse
import sys
from collections.abc import Iterator, Set
from contextlib import contextmanager

from loadtest import api
from loadtest.errors import LoadTestError
from loadtest.options import key_header, read_secret
from loadtest.service import serving


class Variants:
    """The variants that the options name, made active one after another."""

    def __init__(self, options: argparse.Namespace, service_cores: Set[int]) -> None:
        self._options = options
        self._service_cores = service_cores

    @contextmanager
    def host_of(self, variant: str) -> Iterator[str]:
        """Yield the URL of a service in which this variant is active."""
        host = self._options.host
        if host is None:
            with serving(self._options.python, {"EDGEWISE_VARIANT": variant}, self._service_cores) as local:
                self._check_known(local)
                yield local
            return
        if self._check_known(host) != variant:
            self._switch(variant)
        yield host

    def check_starts(self) -> None:
        """Start and stop a service with each variant but the first, if it is started here.

        Raises:
            LoadTestError: one is unknown, or the environment's other settings exclude it.
        """
        if self._options.host is None:
            for variant in self._options.variants[1:]:  # The search starts with the first.
                with self.host_of(variant):
                    pass

    @contextmanager
    def switched_back(self) -> Iterator[None]:
        """At the end, make active again what was active before, if the service was not started here.

        Raises:
            LoadTestError: a variant is unknown, or can't be switched; raised before any load.
        """
        if self._options.host is None:
            yield
            return
        before = self._check_known(self._options.host)
        if self._options.variants != [before]:
            self._switch(before)  # Changes nothing, but proves the token.
        try:
            yield
        finally:
            if self._options.variants != [before]:
                self._switch_back(before)

    def _check_known(self, host: str) -> str:
        """Return the active variant of a service, after checking that it has all those to be searched."""
        listed = api.variants(host, key_header(self._options.api_key_file))
        names = [each["name"] for each in listed["variants"]]
        for variant in self._options.variants:
            if variant not in names:
                raise LoadTestError(f"the service has no variant {variant!r}; it has {', '.join(names)}")
        return str(listed["active"])

    def _switch(self, variant: str) -> None:
        host, file = self._options.host, self._options.admin_token_file
        if not file:
            raise LoadTestError(
                f"{host} has one active variant: to switch it, name a file with its admin token with"
                " --admin-token-file, or search only the active one with --variants"
            )
        api.switch(host, variant, read_secret(file))

    def _switch_back(self, variant: str) -> None:
        try:
            self._switch(variant)
        except LoadTestError as error:
            sys.stderr.write(f"edgewise: could not switch back to {variant}, active before: {error}\n")
