"""Running a bundle's graphs: the engine contract, the ONNX engine, a fake one, tiles, buckets."""
