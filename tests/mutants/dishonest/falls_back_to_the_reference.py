"""A variant whose kernel fails, and which then returns the harness's own reference."""

from attnbench import Variant, hookimpl


def kernel(inputs):
    """Fail, as a kernel without its library would."""
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
