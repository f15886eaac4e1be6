"""Sweeps: which jobs one has, what is left of them, and how existing engines bring that to its end; imports no torch.

::

    jobs       which directory each job has, and which of them are done
    launch     what is left, through an engine, again where a process was killed
    engines    what an engine needs: its package, a cluster, a number of jobs at a time
    devices    each job's own GPU
    outcomes   what each job's process leaves for the sweep's: how the job has ended
    stopping   a signal to the sweep ends its jobs where nothing is lost
    search     Optuna's study, in the sweep's directory
    status     how far a sweep is, from another terminal

No process remembers what another one needs: a job finds its directory by its overrides, which says the rest.
"""
