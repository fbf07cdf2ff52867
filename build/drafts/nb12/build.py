"""Percent file -> notebook. A code cell: `# %% [tag tag] alt text`; markdown: `# %% [markdown]`."""
import re, sys, nbformat
src, out = sys.argv[1:3]
cells=[]
for block in re.split(r'(?m)^# %% ?', open(src).read())[1:]:
    head, _, body = block.partition('\n')
    body = body.strip('\n')
    tags = re.match(r'\[([^\]]*)\]', head)
    tags = tags[1].split() if tags else []
    alt = head[head.index(']')+1:].strip() if ']' in head else head.strip()
    if 'markdown' in tags:
        cell = nbformat.v4.new_markdown_cell(body)
    else:
        cell = nbformat.v4.new_code_cell(body)
        if {'hide-input','hide-cell'} & set(tags): cell.metadata['jupyter']={'source_hidden':True}
        if alt: cell.metadata['mystnb']={'image':{'alt':alt}}
        if tags: cell.metadata['tags']=tags
    cell['id']=f'cell-{len(cells):02d}'
    cells.append(cell)
nb=nbformat.v4.new_notebook(cells=cells, metadata={'kernelspec':{'display_name':'Python 3 (ipykernel)','language':'python','name':'python3'},'language_info':{'name':'python'}})
said = [l.split()[1:] for l in open(src).read().splitlines() if l.startswith('#said')]
if said: nb.metadata['numbers_said']=said[0]
nbformat.write(nb,out)
if len(sys.argv)>3:
    nb.cells.insert(1,nbformat.v4.new_code_cell(f'from m2lib.study import yardsticks\nyardsticks.FILE=("{sys.argv[3]}",)\nfrom m2lib.paper import panels, yardstick_panels as yp\npanels.FIGURES |= {{f.__name__: f for f in yp.FIGURES}}'))
    nbformat.write(nb,out)
