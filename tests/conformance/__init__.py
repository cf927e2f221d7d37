"""The SDK's own tests of queues, run unmodified against the embedded broker.

    make conformance                      everything; minutes of mostly sleeping
    python -m tests.conformance --fast    a minute's worth of it, also part of the test suite

The tests come from the source distribution of the SDK that this project pins, which is fetched by name when they
run and is no part of this project. What they expect of live Azure is stood in for here, and nothing more:

    plugin      what is put in the way of the imports, and how a host name becomes a port on loopback
    preparers   the decorators that would create namespaces, queues and keys
    hosting     one broker for each test, in a thread of its own
    sources     fetching and unpacking the distribution
    verdict     results compared with `expected_failures.toml`
    run         putting it together; `__main__` is the command
"""
