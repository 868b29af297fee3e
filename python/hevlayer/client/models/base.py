"""What every model of the client shares."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class LayerModel(BaseModel):
    """A body of the API. Fields that this version does not know are kept, so a newer server loses nothing."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="allow", populate_by_name=True, defer_build=True, protected_namespaces=()
    )
