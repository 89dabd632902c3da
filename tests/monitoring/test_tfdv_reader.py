"""Reading missingness from TFDV's statistics."""

from __future__ import annotations

from tensorflow_metadata.proto.v0 import statistics_pb2

from tfx_encore.monitoring.tfdv_reader import read_statistics


def _company(non_missing: int, values: int) -> statistics_pb2.DatasetFeatureStatisticsList:
    found = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = found.datasets.add(name="All Examples", num_examples=1000)
    feature = dataset.features.add(type=statistics_pb2.FeatureNameStatistics.STRING)
    feature.path.step.append("company")
    common = feature.string_stats.common_stats
    common.num_non_missing = non_missing
    common.num_missing = 1000 - non_missing
    common.tot_num_values = values
    return found


def test_an_empty_list_as_csv_example_gen_writes_an_empty_cell_is_a_missing_value():
    company = read_statistics(_company(non_missing=1000, values=650)).features["company"]
    assert (company.present, company.missing) == (650, 350)


def test_a_list_of_several_values_is_one_example():
    company = read_statistics(_company(non_missing=900, values=2500)).features["company"]
    assert (company.present, company.missing) == (900, 100)
