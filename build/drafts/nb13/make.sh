# builds, executes and tidies the notebook: make.sh TARGET [RESULTS]; without RESULTS the committed records are read
cd "$(dirname "$0")/../../.."
.venv/bin/python build/drafts/nb13/build.py $1 || exit 1
export PATH=$PWD/.venv/bin:$PATH JUPYTER_PLATFORM_DIRS=1 M2_PROFILE=slice M2_OUT=$PWD/build/execute OMP_NUM_THREADS=1
[ -n "$2" ] && export M2_RESULTS=$2 M2_DATA=/work/shared/data/lotka_volterra_data.h5
NB="jupyter nbconvert --log-level=ERROR --to notebook"
$NB --execute --ExecutePreprocessor.timeout=-1 --ExecutePreprocessor.record_timing=False --inplace $1 || exit 1
$NB --TagRemovePreprocessor.enabled=True '--TagRemovePreprocessor.remove_all_outputs_tags={"remove-cell"}' --ClearMetadataPreprocessor.enabled=True --ClearMetadataPreprocessor.clear_cell_metadata=False '--ClearMetadataPreprocessor.preserve_nb_metadata_mask={"kernelspec", "language_info", "numbers_said"}' --inplace $1
