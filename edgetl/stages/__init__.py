"""Stages: one verb a file, one contract.

    run(options, inputs, context) -> None

options: what the plan says of the step. inputs: name -> Artifact. context: edgetl.stages.context.Context; the stage fills
context.out and may keep checkpoints in context.scratch. An exception leaves no artifact. A stage is entered in
plan.STAGES, with its version and the libraries its results depend on.
"""
