"""The live session: fields from a camera, counted as they come, journalled, resumed after a power cut, finished."""
