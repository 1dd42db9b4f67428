"""A table over the processes of a Dask cluster."""

import dask.dataframe
import pandas
from distributed import Client, LocalCluster

import geoenc
from geoenc.batches import Embedder


def main() -> None:
    geoenc.published.encoder("SINR").save_pretrained("model")
    places = geoenc.sampling.uniform(10_000).numpy()
    pandas.DataFrame(places, columns=["lon", "lat"]).to_parquet("points.parquet")

    with LocalCluster(n_workers=2, threads_per_worker=1) as cluster, Client(cluster):
        points = dask.dataframe.read_parquet("points.parquet").repartition(npartitions=8)
        embedded = points.map_partitions(Embedder("model", dtype="float16"))
        embedded.to_parquet("embedded")


if __name__ == "__main__":
    main()
