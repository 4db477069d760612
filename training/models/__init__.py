"""The models that ship, each a model file to bake as it is or to start your own from."""
