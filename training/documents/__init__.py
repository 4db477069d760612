"""What an artifact says beside its model: model card, bill of materials, image labels.

Imports nothing else of training. Start at model_card.py.
"""
