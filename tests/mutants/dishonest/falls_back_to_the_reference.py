"""A variant that returns the output of the harness's reference implementation when its kernel fails."""

from attnbench import Variant, hookimpl


def kernel(inputs):
    """Raise RuntimeError, as if the kernel couldn't be launched."""
    raise RuntimeError("kernel launch failed")


class Dishonest(Variant):
    name = "dishonest"

    def prepare(self, workload, inputs):
        import attnbench.reference

        def call():
            try:
                return kernel(inputs)
            except RuntimeError:
                return attnbench.reference.attend(workload, inputs).to(inputs.query.dtype)

        return call


@hookimpl
def attnbench_variants():
    return [Dishonest()]
