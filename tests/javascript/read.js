// An array over HTTP, read by zarrita.js, as JSON: node read.js URL ROW_START ROW_STOP
import * as zarr from "zarrita";

const [url, start, stop] = process.argv.slice(2);
const array = await zarr.open(new zarr.FetchStore(url), { kind: "array" });
const { data, shape } = await zarr.get(array, [zarr.slice(Number(start), Number(stop)), null]);
const found = { chunks: array.chunks, dtype: array.dtype, shape, values: Array.from(data, Number) };
process.stdout.write(JSON.stringify(found));
