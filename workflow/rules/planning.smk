# What Snakemake does again for each of a cohort's thousands of jobs, though the answer stays the same.
# None of it changes what runs; what each is worth: benchmarks/NOTES.md.
import functools
import gc
import inspect

from snakemake import sourcecache
from snakemake.common import overwrite_function_params
from snakemake.resources import Resource

# The jobs of a thousand slides are millions of objects that stay: the garbage collector looks through them less often.
gc.set_threshold(200_000, 50, 100)

# A dozen scripts, and each job takes the address of its own apart, three times.
sourcecache.parse_uri = functools.cache(sourcecache.parse_uri)


def known(function):
    """Note a function's parameters: Snakemake inspects it at every call, tens of thousands of times in a dry run."""
    overwrite_function_params(function, inspect.signature(function).parameters)
    return function


# Every resource of every job is evaluated by this method, whose parameters are those of an instance's.
overwrite_function_params(
    Resource.evaluate, inspect.signature(Resource("mem_mb", 1).evaluate).parameters
)
