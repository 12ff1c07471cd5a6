"""The encoder behind MLServer: base64 in the JSON of the Open Inference Protocol."""

import base64
import sys
from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

sys.path.insert(0, str(Path(__file__).parents[1]))
from encoder import open_encoder


class Encoder(MLModel):
    """Images to tokens; MLServer puts batches together along the first axis."""

    async def load(self) -> bool:
        """Open the graph that `parameters.uri` names."""
        parameters = self.settings.parameters
        assert parameters is not None
        assert parameters.uri is not None
        self._encode = open_encoder(Path(parameters.uri))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Tokens of the images of one batch."""
        files = [base64.b64decode(each) for each in payload.inputs[0].data]
        tokens = np.asarray(self._encode(files), np.int32)
        outputs = [NumpyCodec.encode_output("tokens", tokens)]
        return InferenceResponse(model_name=self.name, outputs=outputs)
