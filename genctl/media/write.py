import io
from PIL import Image
def grid(p,columns=None,gap=2):
    n,_,h,w=p.shape; c=columns or int(n**.5+.99); r=-(-n//c)
    im=Image.new('RGB',(c*w,r*h),'white')
    u=((p.clamp(-1,1)+1)*127.5).round().byte().permute(0,2,3,1).contiguous()
    for i in range(n): im.paste(Image.frombytes('RGB',(w,h),bytes(u[i].flatten().tolist())),((i%c)*w,(i//c)*h))
    return im
def encode_picture(im,fmt):
    b=io.BytesIO(); im.save(b,fmt); return b.getvalue()
