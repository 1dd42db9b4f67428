"""A table over the processes of a Ray cluster."""

import pandas
import ray

import geoenc
from geoenc.batches import Embedder


def main() -> None:
    geoenc.published.encoder("SINR").save_pretrained("model")
    places = geoenc.sampling.uniform(10_000).numpy()
    pandas.DataFrame(places, columns=["lon", "lat"]).to_parquet("points.parquet")

    ray.init(num_cpus=2)
    points = ray.data.read_parquet("points.parquet")
    embedded = points.map_batches(Embedder("model", dtype="float16"), batch_size=4096)
    embedded.write_parquet("embedded")


if __name__ == "__main__":
    main()
