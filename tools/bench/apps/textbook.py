"""The service that textbooks show: joblib.load, model.predict and jsonify."""

import os
import warnings

import joblib
import numpy as np
import pandas as pd
from flask import Flask, Response, jsonify, request

# A matrix is the faster way where the model was fitted on a frame of numbers, and gives the same answers.
warnings.filterwarnings("ignore", message="X does not have valid feature names")

app = Flask(__name__)
model = joblib.load(os.environ["MODEL"])
needs_frame = os.environ["FRAME"] == "yes"


@app.post("/predict")
def predict() -> Response:
    """Answer {"X": [[...]]} with {"y_pred": [...]}."""
    rows = request.get_json()["X"]
    X = pd.DataFrame(rows, columns=model.feature_names_in_) if needs_frame else np.array(rows)
    return jsonify(y_pred=model.predict(X).tolist())
