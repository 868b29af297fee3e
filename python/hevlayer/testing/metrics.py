"""Reads a scrape as Prometheus does."""

from prometheus_client.parser import text_string_to_metric_families


def samples(scrape: str | bytes, name: str, **labels: str) -> list[float]:
    """The values of a metric's samples that have these labels, and maybe more."""
    text = scrape if isinstance(scrape, str) else scrape.decode()
    return [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
