"""Kubeflow components: one folder a pipeline step, each a thin call of `soundstage.front.run_component`."""
