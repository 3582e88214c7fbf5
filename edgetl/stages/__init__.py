"""Stages: one verb per file, one contract.

    run(options, inputs, context) -> None

options: the step's options in the plan. inputs: name -> Artifact. context: edgetl.stages.context.Context; the stage fills
context.out and may keep checkpoints in context.scratch. An exception leaves no artifact. A stage is entered in
catalogue.STAGES, with its version and the libraries that its results depend on.
"""
